"""tuneyard cancel and requeue."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.errors import TuneyardError, UsageError
from orchestrator.cli.commands.jobs.sweep import group_path
from orchestrator.cli.flags import read_setting
from orchestrator.cli.output import OK, client_verb, emit, error_value, exit_code, report
from orchestrator.cli.render import words
from orchestrator.cli.render.notes import note
from orchestrator.client.http import Api, job_path
from orchestrator.client.idempotent import once

if TYPE_CHECKING:
    from orchestrator.schemas import Job


@click.command("cancel")
@click.argument("jobs", nargs=-1, metavar="JOB...")
@click.option("--group", metavar="G", help="All jobs of this sweep, by its id or name, that have not ended.")
@client_verb
def cancel_verb(api: Api, as_json: bool, jobs: tuple[str, ...], group: str | None) -> int:
    """Cancel jobs.

    JOB is an id or a name. A running job is stopped by its host within seconds; `tuneyard show` tells when.
    """
    none = "every job of group {} has ended already"
    return each_or_group(api, as_json, jobs, group, "cancel", _cancelled, none)


@click.command("requeue")
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key of the job file.")
@click.option("--from-start", is_flag=True, help="Begin at step 0, whatever checkpoint there is.")
@client_verb
def requeue_verb(
    api: Api, as_json: bool, jobs: tuple[str, ...], settings: tuple[str, ...], from_start: bool
) -> int:
    """Submit ended jobs again, from where they had come to.

    JOB is an id or a name. The new job has an id of its own, and the same job file except for --set, such as --set
    time_limit=8h. It goes on from the newest checkpoint; a change that these steps would have been trained otherwise
    with needs --from-start.
    """
    overrides = read_settings(settings)
    body = {"overrides": overrides, "base_dir": str(Path.cwd()), "from_start": from_start}
    return each(api, as_json, jobs, "requeue", _requeued, body)


def read_settings(settings: Sequence[str], flag: str = "--set ") -> dict[str, Any]:
    """KEY=VALUE of several. flag: that each was given by. Raises UsageError."""
    overrides: dict[str, Any] = {}
    for text in settings:
        path, value = read_setting(text, flag)
        if path in overrides:
            raise UsageError(f"{path} is set twice; give it once")
        overrides[path] = value
    return overrides


def _requeued(job: Any, asked: str) -> str:
    told = job.get("goes_on")  # a server of an older version says nothing of it, and begins again
    return f"job {asked} is queued again as {words.label(job)}" + (f"; it {told['text']}" if told else "")


def each(
    api: Api,
    as_json: bool,
    names: tuple[str, ...],
    action: str,
    sentence: Callable[[Any, str], str],
    body: Any = None,
) -> int:
    """Do it to each; a failure on one does not keep the others from it. The highest exit code.

    sentence: what is said of a job to which it was done, and of the name that it was asked by.
    """
    done: list[Job] = []
    failed: list[TuneyardError] = []
    code = OK
    for name in names:
        try:
            job = _ask(api, job_path(name, f"/{action}"), body)
        except TuneyardError as error:
            failed.append(error)
            code = max(code, exit_code(error) if as_json else report(error, as_json=False))
            continue
        done.append(job)
        if not as_json:
            click.echo(sentence(job, name))
    if as_json:
        first = error_value(failed[0]) if failed else {}
        emit({"jobs": done, **first} if len(names) > 1 or not failed else first)
    return code


def _ask(api: Api, path: str, body: Any) -> Any:
    key = str(uuid.uuid4())  # only what makes a job looks at it
    if body is None:
        return api.post(path)[1]
    return once(key, lambda: api.post(path, body, key), note, takes_key=False)[1]


def each_or_group(
    api: Api,
    as_json: bool,
    jobs: tuple[str, ...],
    group: str | None,
    action: str,
    sentence: Callable[[Any, str], str],
    none: str,
) -> int:
    """Do it to each job, or to those of a group that it can be done to; the exit code. none: what is said where there
    are none of these, with the group for {}. Raises UsageError without either, and with both.
    """
    if (group is None) == (not jobs):
        raise UsageError(f"give jobs to {action} or --group G for all of a sweep, one of the two")
    if group is None:
        return each(api, as_json, jobs, action, sentence)
    _, answer = api.post(group_path(group, f"/{action}"))
    if as_json:
        emit(answer)
        return OK
    for job in answer["jobs"]:
        click.echo(sentence(job, ""))
    if not answer["jobs"]:
        note(none.format(group))
    return OK


def _cancelled(job: Job, asked: str = "") -> str:
    if job["state"] == "cancelled":
        return f"{words.label(job)} is cancelled"
    return f"{words.label(job)} is asked to stop"
