"""tuneyard top: cards and jobs, live."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from jobs.errors import Unavailable
from jobs.units import gib
from orchestrator.cli import words
from orchestrator.cli.http import Api
from orchestrator.cli.output import client_verb, emit
from orchestrator.cli.table import Cell, Column, is_terminal, rich_table, show, terminal_width

if TYPE_CHECKING:
    from orchestrator.shapes import Gpu, Job

BAR = 10
JOBS_ASKED = 100

CARD_COLUMNS = (
    Column("HOST"),
    Column("#", right=True),
    Column("CARD", keep=6, flexible=True),
    Column("MEMORY", keep=8),
    Column("USE", keep=7),
    Column("POWER", right=True, keep=4),
    Column("TEMP", right=True, keep=3),
    Column("JOB", keep=8, flexible=True),
    Column("PROGRESS", right=True, keep=7),
    Column("ETA", right=True, keep=6),
)
WAITING_COLUMNS = (
    Column("ID", right=True),
    Column("NAME", keep=8, flexible=True),
    Column("GPUS", right=True, keep=5),
    Column("SUBMITTED", right=True, keep=4),
    Column("WAITS FOR", keep=8, flexible=True),
)


@click.command("top")
@click.option("--once", is_flag=True, help="Print it once, and end; so it does in a pipe.")
@click.option("--interval", type=click.FloatRange(0.2, 60), default=1.0, show_default=True, metavar="SECONDS")
@client_verb
def top_verb(api: Api, as_json: bool, once: bool, interval: float) -> None:
    """Watch cards and jobs live.

    q or Ctrl-C ends it. A server that goes away is waited for.
    """
    if as_json:
        emit(_ask(api))
    elif once or not is_terminal():
        _print_once(_ask(api))
    else:
        with suppress(KeyboardInterrupt):  # the way out, not a failure
            _watch(api, interval)


def _ask(api: Api) -> dict[str, Any]:
    page = api.get("/jobs", state="running,queued", limit=JOBS_ASKED)
    return {"gpus": api.get("/gpus")["gpus"], "jobs": page["jobs"], "total": page["total"]}


def _print_once(view: dict[str, Any]) -> None:
    now = time.time()
    click.echo(headline(view)[: terminal_width()] if is_terminal() else headline(view))
    if view["gpus"]:
        click.echo("")
        show(CARD_COLUMNS, card_rows(view, now))
    if waiting := waiting_rows(view, now):
        click.echo("")
        show(WAITING_COLUMNS, waiting)


def headline(view: dict[str, Any]) -> str:
    """One line: cards, how many are busy, their power, jobs."""
    gpus: list[Gpu] = view["gpus"]
    jobs: list[Job] = view["jobs"]
    busy = sum(gpu["job"] is not None for gpu in gpus)
    watts = [power for gpu in gpus if (power := (gpu["sample"] or {}).get("power_w")) is not None]
    power = f", {sum(watts):,.0f} W" if watts else ""
    running = sum(job["state"] == "running" for job in jobs)
    cards = "card" if len(gpus) == 1 else "cards"
    return f"{len(gpus)} {cards}, {busy} busy{power}; {running} running, {view['total'] - running} queued"


def card_rows(view: dict[str, Any], now: float) -> list[list[Cell | str]]:
    """One row a card under CARD_COLUMNS, with the job on it."""
    jobs = {job["id"]: job for job in view["jobs"]}
    # Of a card that several share, no one job's name and progress are the card's.
    return [
        _card_row(gpu, jobs.get(gpu["job"]) if len(gpu["jobs"]) == 1 else None, now) for gpu in view["gpus"]
    ]


def _card_row(gpu: Gpu, job: Job | None, now: float) -> list[Cell | str]:
    sample = gpu["sample"] or {}
    used, busy = sample.get("memory_used_bytes"), sample.get("utilization")
    share = None if used is None else used / gpu["memory_bytes"]
    on_it = ", ".join(map(str, gpu["jobs"]))
    return [
        gpu["host"],
        str(gpu["index"]),
        gpu["name"],
        Cell(f"{bar(share)} {words.size(used) or '-'} / {gib(gpu['memory_bytes'])}", _heat(share)),
        Cell("-" if busy is None else f"{bar(busy)} {100 * busy:3.0f}%", _heat(None)),
        words.reading(gpu, "power_w", "{:.0f} W"),
        words.reading(gpu, "temperature_c", "{:.0f} °C"),
        Cell(f"FAULT: {gpu['fault']}", "red")
        if gpu["fault"]
        else Cell(f"{on_it} {job['name']}".strip() if job else on_it or "idle", "cyan" if on_it else "dim"),
        words.percent(job["progress"]) if job else "",
        words.eta(job, now) if job else "",
    ]


def waiting_rows(view: dict[str, Any], now: float) -> list[list[Cell | str]]:
    """One row a queued job under WAITING_COLUMNS, oldest first."""
    waiting = [job for job in reversed(view["jobs"]) if job["state"] == "queued"]
    return [
        [
            str(job["id"]),
            job["name"] or "-",
            str(job["gpus"]),
            Cell(words.ago(job["submitted_at"], now), "dim"),
            (job["reason"] or {}).get("text", ""),
        ]
        for job in waiting
    ]


def bar(share: float | None) -> str:
    """A bar of BAR characters, full at 1."""
    full = 0 if share is None else max(0, min(BAR, round(share * BAR)))
    return "█" * full + "░" * (BAR - full)


def _heat(share: float | None) -> str:
    if share is None or share < 0.5:
        return ""
    return "yellow" if share < 0.95 else "red"


def _watch(api: Api, interval: float) -> None:
    from rich.console import Console, Group  # here: rich costs 0.1 s, for terminals only
    from rich.live import Live
    from rich.text import Text

    def frame(view: dict[str, Any], trouble: str) -> Group:
        now, width = time.time(), console.width
        head = Text(headline(view), style="bold")
        head.append(f"   {time.strftime('%H:%M:%S', time.localtime(now))}   q ends", style="dim")
        parts: list[Any] = [head]
        if trouble:
            parts.append(Text(trouble, style="red"))
        parts += [Text(""), rich_table(CARD_COLUMNS, card_rows(view, now), width)]
        room = console.height - len(view["gpus"]) - 6
        if (waiting := waiting_rows(view, now)) and room > 0:
            parts += [Text(""), rich_table(WAITING_COLUMNS, waiting[:room], width)]
        return Group(*parts)

    console = Console(highlight=False)
    view = _ask(api)
    with _keys() as keys, Live(frame(view, ""), console=console, screen=True, auto_refresh=False) as live:
        while not _quit_pressed(keys, interval):
            trouble = ""
            try:
                view = _ask(api)
            except Unavailable as error:
                trouble = f"{error}; what is shown is from before"
            live.update(frame(view, trouble), refresh=True)


@contextmanager
def _keys() -> Iterator[int | None]:
    """stdin without line buffering and echo; None where it is no terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    import termios  # here: only Unix has them, and only a terminal needs them
    import tty

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)
        yield number
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _quit_pressed(keys: int | None, seconds: float) -> bool:
    """Wait that long; whether q was pressed meanwhile."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if keys is None:
            time.sleep(left)
        elif select.select([keys], [], [], left)[0]:
            pressed = os.read(keys, 64)
            if not pressed or b"q" in pressed or b"Q" in pressed:
                return True
    return False
