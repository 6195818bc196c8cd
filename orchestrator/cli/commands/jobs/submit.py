"""tuneyard submit."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.errors import UsageError
from jobs.units import counted
from orchestrator.cli import follow as watch
from orchestrator.cli.flags import faults_first, job_bodies, job_flags
from orchestrator.cli.log_output import LogOutput, to_stdout
from orchestrator.cli.output import OK, client_verb, emit
from orchestrator.cli.render import words
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import Cell, is_terminal, show_fields, show_line
from orchestrator.client.http import Api
from orchestrator.client.idempotent import once
from orchestrator.client.settings import user_name

if TYPE_CHECKING:
    from orchestrator.schemas import GroupShape, Job


@click.command("submit")
@job_flags
@click.option(
    "--follow", "-f", "following", is_flag=True, help="Print the job's log until it ends; implies --wait."
)
@click.option(
    "--wait", "-w", "waiting", is_flag=True, help="Wait for the end; the exit code tells how it ended."
)
@click.option("--hold", is_flag=True, help="Hold them: none starts before `tuneyard release`.")
@click.option("--dry-run", is_flag=True, help="Validate only: nothing is stored.")
@click.option(
    "--key",
    metavar="KEY",
    help="What to call this submission: submitting the same again with it makes no second job. Made up by default.",
)
@client_verb
def submit_verb(
    api: Api,
    as_json: bool,
    files: tuple[Path, ...],
    settings: tuple[str, ...],
    following: bool,
    waiting: bool,
    hold: bool,
    dry_run: bool,
    key: str | None,
    **flags: Any,
) -> int:
    """Submit jobs from files or flags.

    Several FILES are submitted together: all of them or, when one has a fault, none. Flags are laid over each
    file; a FILE of - is standard input. A file with a matrix makes a group of jobs.

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
    if dry_run and key:
        raise UsageError("--dry-run stores nothing, so it takes no --key")
    if hold and (waiting or following):
        raise UsageError("a held job does not start, so --hold does not go with --wait and --follow")
    bodies = job_bodies(files, settings, flags)
    if following and len(bodies) > 1:
        raise UsageError("--follow prints one log; use --wait with several files")
    request = {"jobs": bodies, "user": user_name(), **({"hold": True} if hold else {})}
    with faults_first(bodies):
        if dry_run:
            _, answer = api.post("/jobs", request, dry_run="true")
        else:
            key = key or str(uuid.uuid4())
            _, answer = once(key, lambda: api.post("/jobs", request, key), note)
    jobs: list[Job] = answer["jobs"]
    if not as_json:
        _tell(answer, dry_run, waiting or following)
    if not (waiting or following):
        if as_json:
            emit(answer)
        return OK
    ids = [job["id"] for job in jobs]
    if following and len(ids) > 1:
        note(f"--follow prints one log, and this made {len(ids)} jobs: waiting for all of them")
        following = False
    if following and not as_json:
        ended: list[Job] = [watch.follow(api, str(ids[0]), None, LogOutput(to_stdout, live=is_terminal()))]
    else:
        ended = watch.wait(api, ids, quiet=as_json)
    if as_json:
        emit({"jobs": ended})
    return max(watch.exit_code(job) for job in ended)


def _tell(answer: Any, dry_run: bool, watched: bool) -> None:
    for line in answer.get("replaced", ()):
        note(line)
    if answer.get("again"):
        note("an earlier request with this key was taken: these are its jobs, none is new")
    if dry_run:
        count = len(answer["valid"])
        click.echo(f"valid: {count} {'job' if count == 1 else 'jobs'}; nothing was submitted")
        _warn(answer)
        return
    jobs: list[Job] = answer["jobs"]
    groups: dict[int, GroupShape] = {group["id"]: group for group in answer["groups"]}
    for job in jobs:
        group = None if job["group"] is None else groups[job["group"]]
        if group is None:
            click.echo(f"submitted {words.label(job)}: {job['method']} of {job['model']}{_waits(job)}")
            _tell_steps(answer, job)
            continue
        at = group["jobs"].index(job["id"])
        if at == 0:
            _tell_group(group, job)
        values = ", ".join(f"{path}={_plain(value)}" for path, value in group["values"][at].items())
        click.echo(f"  {words.label(job)}: {values}")
        _tell_steps(answer, job)
    _warn(answer)
    if len(jobs) == 1 and not watched:
        note("")
        number = jobs[0]["id"]
        show_fields([("follow it", f"tuneyard logs -f {number}"), ("why it waits", f"tuneyard why {number}")])


def _tell_steps(answer: Any, job: Job) -> None:
    """What follows its training; an older server leaves it out."""
    steps = [step for step in answer.get("steps", ()) if step["of"] == job["id"]]
    if steps:
        named = ", ".join(f"{step['kind']} (job {step['job']})" for step in steps)
        click.echo(f"  then {named}")


def _warn(answer: Any) -> None:
    for text in answer.get("warnings", []):
        show_line("warning: ", Cell(text, "yellow"))


def _tell_group(group: GroupShape, first: Job) -> None:
    name = f" ({group['name']})" if group["name"] else ""
    what = f"{counted(len(group['jobs']), 'job')} of {first['model']}{_waits(first)}"
    click.echo(f"submitted group {group['id']}{name}: {what}")


def _waits(job: Job) -> str:
    numbers = [str(link["job"]) for link in job["after"]]
    shown = ", ".join(numbers[:3]) + (f" and {len(numbers) - 3} more" if len(numbers) > 3 else "")
    return f", waits for job {shown}" if numbers else ""


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
