"""tuneyard list: jobs filtered, sorted and in the columns that people ask for; a sweep as a table of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from jobs.errors import UsageError
from jobs.units import counted
from orchestrator.cli.commands.jobs.columns import JOB_COLUMNS, chosen, job_row
from orchestrator.cli.commands.jobs.sweep import group_path, show_sweep
from orchestrator.cli.output import client_verb, emit
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import Column, show
from orchestrator.cli.times import past
from orchestrator.client.http import Api
from orchestrator.client.settings import user_name

if TYPE_CHECKING:
    from orchestrator.schemas import Job

STATES = ("queued", "running", "succeeded", "failed", "cancelled")
SORTS = (
    *("id", "name", "group", "user", "project", "state"),
    *("priority", "gpus", "loss", "submitted", "started", "ended"),
)
PAGE = 500


def _named(_: click.Context, option: click.Parameter, given: str | None) -> str | None:
    """An empty name would ask for nobody's jobs, most likely of a variable that is not set."""
    if given is not None and not given.strip():
        raise UsageError(f"{option.opts[0]} is empty; write a name, or leave it out for all jobs")
    return given


def _states(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> list[str]:
    asked = [state for text in given for state in text.split(",") if state]
    if given and not asked:
        raise UsageError(f"--state {given[0]!r} names no state; use {', '.join(STATES)}")
    for state in asked:
        if state not in STATES:
            raise UsageError(f"--state {state!r} is no state; use {', '.join(STATES)}")
    return asked


def _columns(_: click.Context, __: click.Parameter, given: str | None) -> list[Column] | None:
    return None if given is None else chosen(given)


def _sort(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    if given is None:
        return None
    sort = given.lower()
    if sort.removeprefix("-") not in SORTS:
        raise UsageError(f"--sort {given!r} is no column to sort by; use {', '.join(SORTS)}")
    return sort


@click.command("list")
@click.argument("sweep", required=False)
@click.option(
    "--state", "states", multiple=True, callback=_states, metavar="STATE", help="Only these, comma-separated."
)
@click.option("--user", callback=_named, metavar="NAME", help="Only the jobs of this user.")
@click.option("--mine", is_flag=True, help="Only your own.")
@click.option(
    "--name",
    callback=_named,
    metavar="PATTERN",
    help="Only names like this, such as 'docs-*'; also ? and [abc].",
)
@click.option("--project", callback=_named, metavar="NAME", help="Only the jobs of this project.")
@click.option("--group", callback=_named, metavar="G", help="Only the jobs of this sweep, by its id or name.")
@click.option(
    "--since", callback=past, metavar="TIME", help="Only what was submitted since: 2h ago, or 2026-11-01."
)
@click.option(
    "--sort", callback=_sort, metavar="COLUMN", help="By this column; -COLUMN for the greatest first."
)
@click.option("--columns", callback=_columns, metavar="A,B", help="These columns, in this order.")
@click.option(
    "--limit", type=click.IntRange(1, PAGE), default=50, show_default=True, help="How many at most."
)
@click.option("--all", "everything", is_flag=True, help="All of them, page by page.")
@client_verb
def list_verb(
    api: Api,
    as_json: bool,
    sweep: str | None,
    states: list[str],
    user: str | None,
    mine: bool,
    columns: list[Column] | None,
    limit: int,
    everything: bool,
    **given: Any,
) -> None:
    """List jobs, newest first; of a SWEEP what differs between its jobs, best first.

    States: queued, running, succeeded, failed, cancelled; running* has a cancel on its way. SWEEP is the id or name
    of a group of jobs. A loss of nan is no number any more.
    """
    if columns and as_json:
        raise UsageError("--columns is for the table, and --json prints every field; give one of the two")
    if mine and user is not None:
        raise UsageError("--mine and --user are two answers to one question; give one of the two")
    asked = {"state": ",".join(states) or None, "user": user_name() if mine else user, **given}
    narrowed = {name: value for name, value in asked.items() if value is not None}
    if sweep is not None:
        if narrowed or columns:
            raise UsageError(
                f"list {sweep} shows all of a sweep; to narrow it, or for other columns, give --group {sweep}"
            )
        table = api.get(group_path(sweep))
        emit(table) if as_json else show_sweep(table, time.time())
        return
    page = _all(api, narrowed) if everything else api.get("/jobs", **narrowed, limit=limit)
    if as_json:
        emit(page)
        return
    jobs: list[Job] = page["jobs"]
    if not jobs:
        note(_none(states, asked))
        return
    now = time.time()
    if columns:
        show(columns, [job_row(job, now, columns, asked=True) for job in jobs])
    else:
        show(JOB_COLUMNS, [job_row(job, now) for job in jobs], "--columns")
    if page["more"]:
        note(f"{len(jobs)} of {counted(page['total'], 'job')}; --limit N or --all shows more")


def _all(api: Api, asked: dict[str, Any]) -> Any:
    """Every page as one, each job once: sorted by what changes, jobs move between pages."""
    found: dict[int, Job] = {}
    page = api.get("/jobs", **asked, limit=PAGE)
    read = 0
    while True:
        found |= {job["id"]: job for job in page["jobs"]}
        read += len(page["jobs"])
        if not page["more"] or not page["jobs"]:
            return {"jobs": [*found.values()], "more": False, "total": page["total"]}
        later = {"offset": read} if "sort" in asked else {"before": page["jobs"][-1]["id"]}
        page = api.get("/jobs", **asked, limit=PAGE, **later)


def _none(states: list[str], asked: dict[str, Any]) -> str:
    """That there are no jobs, with what was asked for."""
    wanted = "".join(
        f" {words} {asked[name]}"
        for name, words in (
            ("group", "of group"),
            ("project", "of project"),
            ("user", "of user"),
            ("name", "named like"),
        )
        if asked.get(name)
    )
    wanted += f" that are {' or '.join(states)}" if states else ""
    wanted += " submitted since then" if asked.get("since") is not None else ""
    return f"no jobs{wanted or '; `tuneyard submit` makes the first'}"
