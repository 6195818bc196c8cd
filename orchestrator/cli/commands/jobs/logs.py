"""tuneyard logs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from jobs.errors import UsageError
from jobs.units import counted
from orchestrator.cli import follow as watch
from orchestrator.cli.output import OK, client_verb, emit
from orchestrator.cli.render import words
from orchestrator.cli.render.notes import note
from orchestrator.client.http import Api, job_path

if TYPE_CHECKING:
    from orchestrator.schemas import JobFull


@click.command("logs")
@click.argument("job")
@click.option("--follow", "-f", "following", is_flag=True, help="Go on until the job has ended.")
@click.option(
    "--attempt", type=click.IntRange(1), metavar="N", help="That attempt's log, not the last one's."
)
@client_verb
def logs_verb(api: Api, as_json: bool, job: str, following: bool, attempt: int | None) -> int:
    """Print the log of a job's attempt.

    JOB is an id or a name. With --follow, later attempts' logs come after it, and a server that restarts
    is waited for.
    """
    found: JobFull = api.get(job_path(job))
    if attempt and attempt > found["attempts"] and not following:
        raise UsageError(
            f"{words.label(found)} has {counted(found['attempts'], 'attempt')}; --attempt {attempt} is not one"
        )
    if following:
        ended = watch.follow(api, str(found["id"]), attempt, quiet=as_json)
        if not as_json:
            return OK
        found = ended
    if not found["attempts"]:
        if as_json:
            emit({"attempt": None, "text": "", "ended": found["state"] in words.ENDED})
        else:
            note(
                f"{words.label(found)} has not started: {(found['reason'] or {}).get('text', found['state'])}"
            )
        return OK
    log = watch.read_log(api, str(found["id"]), attempt)
    if as_json:
        emit(log)
        return OK
    sys.stdout.write(log["text"])
    if log["text"] and not log["text"].endswith("\n"):
        sys.stdout.write("\n")
    return OK
