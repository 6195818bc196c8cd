"""tuneyard set, hold and release: what may be done to a job that waits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.commands.jobs.control import each_or_group, read_settings
from orchestrator.cli.output import client_verb, emit
from orchestrator.cli.render import words
from orchestrator.client.http import Api, job_path

if TYPE_CHECKING:
    from orchestrator.schemas import Changed


@click.command("set")
@click.argument("job", metavar="JOB")
@click.argument("settings", nargs=-1, required=True, metavar="KEY=VALUE...")
@client_verb
def set_verb(api: Api, as_json: bool, job: str, settings: tuple[str, ...]) -> None:
    """Change the job file of a job that waits.

    JOB is an id or a name; KEY is a dotted key of the job file, such as priority=high or training.steps=200. The whole
    job file is validated again. Of a running job only priority and retries can change; once a job has trained, only
    what changes nothing about what it trains.
    """
    overrides = read_settings(settings, flag="")
    changed: Changed = api.patch(job_path(job), {"overrides": overrides, "base_dir": str(Path.cwd())})
    if as_json:
        emit(changed)
    else:
        for line in changed.get("replaced", ()):  # a server of an older version does not tell
            click.echo(f"changes too: {line}", err=True)
        click.echo(f"{words.label(changed)} has {', '.join(settings)} now")


def _group_option(which: str) -> Callable[[Any], Any]:
    return click.option("--group", metavar="G", help=f"All {which} jobs of this sweep, by its id or name.")


@click.command("hold")
@click.argument("jobs", nargs=-1, metavar="JOB...")
@_group_option("queued")
@client_verb
def hold_verb(api: Api, as_json: bool, jobs: tuple[str, ...], group: str | None) -> int:
    """Keep queued jobs from starting until they are released.

    JOB is an id or a name. Jobs that come after a held one wait with it. With --group, those that run already run on.
    """
    none = "no job of group {} was queued and not held"
    return each_or_group(
        api, as_json, jobs, group, "hold", lambda job, _: f"{words.label(job)} is held", none
    )


@click.command("release")
@click.argument("jobs", nargs=-1, metavar="JOB...")
@_group_option("held")
@client_verb
def release_verb(api: Api, as_json: bool, jobs: tuple[str, ...], group: str | None) -> int:
    """Let held jobs start.

    JOB is an id or a name. The time for which a job was held does not count as waiting.
    """
    none = "no job of group {} was held"
    return each_or_group(
        api, as_json, jobs, group, "release", lambda job, _: f"{words.label(job)} is released", none
    )
