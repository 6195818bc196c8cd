"""tuneyard list, hosts, gpus: the tables."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from jobs.errors import UsageError
from jobs.units import gib
from orchestrator.cli import words
from orchestrator.cli.http import Api
from orchestrator.cli.output import client_verb, emit, note
from orchestrator.cli.table import Cell, Column, Row, show

if TYPE_CHECKING:
    from orchestrator.shapes import Gpu, Host, Job

STATES = ("queued", "running", "succeeded", "failed", "cancelled")
PAGE = 500

HOST_COLUMNS = (
    Column("NAME"),
    Column("STATE"),
    Column("RAY", keep=4),
    Column("CARDS", right=True),
    Column("FREE", right=True),
    Column("LAST SEEN", right=True, keep=5),
    Column("LABELS", keep=3, flexible=True),
    Column("TORCH", keep=1),
    Column("VERSION", keep=2),
)

GPU_COLUMNS = (
    Column("HOST"),
    Column("#", right=True),
    Column("CARD", flexible=True),
    Column("MEMORY", right=True),
    Column("IN USE", right=True, keep=7),
    Column("BUSY", right=True, keep=6),
    Column("POWER", right=True, keep=4),
    Column("TEMP", right=True, keep=3),
    Column("JOB", right=True, keep=8),
    Column("NOTE", keep=8, flexible=True),
)


def _states(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> list[str]:
    asked = [state for text in given for state in text.split(",") if state]
    for state in asked:
        if state not in STATES:
            raise UsageError(f"--state {state!r} is no state; use {', '.join(STATES)}")
    return asked


@click.command("list")
@click.option(
    "--state", "states", multiple=True, callback=_states, metavar="STATE", help="Only these, comma-separated."
)
@click.option(
    "--limit", type=click.IntRange(1, PAGE), default=50, show_default=True, help="How many at most."
)
@click.option("--all", "everything", is_flag=True, help="All of them, page by page.")
@click.option("--group", type=click.IntRange(0), metavar="G", help="Only the jobs of this sweep.")
@click.option("--project", metavar="NAME", help="Only the jobs of this project.")
@client_verb
def list_verb(
    api: Api,
    as_json: bool,
    states: list[str],
    limit: int,
    everything: bool,
    group: int | None,
    project: str | None,
) -> None:
    """List jobs, newest first.

    States: queued, running, succeeded, failed, cancelled; running* has a cancel on its way.
    """
    asked = {"state": ",".join(states) or None, "group": group, "project": project}
    page = _page(api, asked, PAGE if everything else limit)
    while everything and page["more"]:
        later = _page(api, asked, PAGE, before=page["jobs"][-1]["id"])
        page = {"jobs": page["jobs"] + later["jobs"], "more": later["more"], "total": later["total"]}
    if as_json:
        emit(page)
        return
    jobs: list[Job] = page["jobs"]
    if not jobs:
        wanted = f" of group {group}" if group is not None else ""
        wanted += f" of project {project}" if project else ""
        wanted += f" that are {' or '.join(states)}" if states else ""
        note(f"no jobs{wanted or '; `tuneyard submit` makes the first'}")
        return
    now = time.time()
    show(words.JOB_COLUMNS, [words.job_row(job, now) for job in jobs])
    if page["more"]:
        note(f"{len(jobs)} of {page['total']:,} jobs; --limit N or --all shows more")


def _page(api: Api, asked: dict[str, Any], limit: int, before: int | None = None) -> Any:
    return api.get("/jobs", **asked, limit=limit, before=before)


@click.command("hosts")
@client_verb
def hosts_verb(api: Api, as_json: bool) -> None:
    """List hosts."""
    answer = api.get("/hosts")
    if as_json:
        emit(answer)
        return
    if not answer["hosts"]:
        note(
            "no host has joined; `tuneyard host run --server URL --token T` joins one, `tuneyard up` this one"
        )
        return
    now = time.time()
    show(HOST_COLUMNS, [_host_row(host, now) for host in answer["hosts"]])


def _host_row(host: Host, now: float) -> Row:
    return [
        host["name"],
        words.host_state(host),
        Cell("ready", "green") if host["ray_ready"] else Cell("not yet", "yellow"),
        str(host["gpus"]),
        str(host["free"]),
        Cell(words.ago(host["last_seen"], now) or "never", "dim"),
        ", ".join(f"{key}={value}" for key, value in sorted(host["labels"].items())),
        host["stack"].get("torch", ""),
        host["version"],
    ]


@click.command("gpus")
@client_verb
def gpus_verb(api: Api, as_json: bool) -> None:
    """List cards with what they are doing."""
    answer = api.get("/gpus")
    if as_json:
        emit(answer)
        return
    if not answer["gpus"]:
        note("no cards: no host has joined; `tuneyard hosts` shows who has")
        return
    show(GPU_COLUMNS, [gpu_row(gpu) for gpu in answer["gpus"]])


def _card_note(gpu: Gpu) -> Cell:
    """Why no job starts there now. A host that is away says no more of what is wrong with its cards."""
    if gpu["host_state"] == "online":
        return Cell(gpu["fault"] or "", "red")
    text = f"host is {gpu['host_state']}"
    return (
        Cell(text, words.STATE_STYLES.get(gpu["host_state"], ""))
        if words.gone(gpu) or not gpu["fault"]
        else Cell(f"{gpu['fault']}; {text}", "red")
    )


def gpu_row(gpu: Gpu) -> list[Cell | str]:
    """One card as a row under GPU_COLUMNS."""
    used = words.latest(gpu).get("memory_used_bytes")
    return [
        gpu["host"],
        str(gpu["index"]),
        gpu["name"],
        gib(gpu["memory_bytes"]),
        words.size(used) or "-",
        words.reading(gpu, "utilization", "{:.0f}%", 100),
        words.reading(gpu, "power_w", "{:.0f} W"),
        words.reading(gpu, "temperature_c", "{:.0f} °C"),
        Cell(", ".join(map(str, gpu["jobs"])), "cyan"),
        _card_note(gpu),
    ]
