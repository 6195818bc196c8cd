"""tuneyard submit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.errors import UsageError
from orchestrator.cli import follow as watch
from orchestrator.cli import words
from orchestrator.cli.flags import job_bodies, job_flags, user_name
from orchestrator.cli.http import Api
from orchestrator.cli.output import OK, client_verb, emit, note
from orchestrator.cli.table import show_fields

if TYPE_CHECKING:
    from orchestrator.shapes import Job


@click.command("submit")
@job_flags
@click.option(
    "--follow", "-f", "following", is_flag=True, help="Print the job's log until it ends; implies --wait."
)
@click.option(
    "--wait", "-w", "waiting", is_flag=True, help="Wait for the end; the exit code tells how it ended."
)
@click.option("--dry-run", is_flag=True, help="Validate only: nothing is stored.")
@client_verb
def submit_verb(
    api: Api,
    as_json: bool,
    files: tuple[Path, ...],
    settings: tuple[str, ...],
    following: bool,
    waiting: bool,
    dry_run: bool,
    **flags: Any,
) -> int:
    """Submit jobs from files or flags.

    Several FILES are submitted together: all of them or, when one has a fault, none. Flags are laid over each
    file; a FILE of - is standard input.

    \b
    Exit codes of --wait and --follow (with several jobs, the highest):
      0  succeeded
      1  failed, or the server is not there
      2  usage or bad input: nothing was submitted
      3  cancelled
      4  out of memory
      5  time limit
      6  the host was lost, or the trainer never started
    """
    if dry_run and (waiting or following):
        raise UsageError("--dry-run stores nothing, so there is nothing to --wait for or --follow")
    bodies = job_bodies(files, settings, flags)
    if following and len(bodies) > 1:
        raise UsageError("--follow prints one log; use --wait with several files")
    request = {"jobs": bodies, "user": user_name()}
    _, answer = api.post("/jobs", request, **({"dry_run": "true"} if dry_run else {}))
    jobs: list[Job] = answer["jobs"]
    if not as_json:
        _tell(jobs, len(bodies), dry_run, waiting or following)
    if not (waiting or following):
        if as_json:
            emit(answer)
        return OK
    ids = [job["id"] for job in jobs]
    if following and not as_json:
        ended: list[Job] = [watch.follow(api, str(ids[0]), None)]
    else:
        ended = watch.wait(api, ids, quiet=as_json)
    if as_json:
        emit({"jobs": ended})
    return max(watch.exit_code(job) for job in ended)


def _tell(jobs: list[Job], count: int, dry_run: bool, watched: bool) -> None:
    if dry_run:
        click.echo(f"valid: {count} {'job' if count == 1 else 'jobs'}; nothing was submitted")
        return
    for job in jobs:
        click.echo(f"submitted {words.label(job)}: {job['method']} of {job['model']}")
    if len(jobs) == 1 and not watched:
        note("")
        number = jobs[0]["id"]
        show_fields([("follow it", f"tuneyard logs -f {number}"), ("why it waits", f"tuneyard why {number}")])
