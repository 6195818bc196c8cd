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
from orchestrator.cli.output import client_verb, emit
from orchestrator.cli.render import words
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import (
    Cell,
    Column,
    hidden_note,
    is_terminal,
    rich_table,
    show,
    terminal_width,
)
from orchestrator.client.http import Api

if TYPE_CHECKING:
    from orchestrator.schemas import Gpu, Job

BAR = 10
PAGE = 500
WAITING_ASKED = 100
LEAST_ROWS = 3  # of the cards and of the jobs that wait, where there is no room for all

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
    Column("REASON", keep=8, flexible=True),
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
    """Cards and jobs: every running one, for each is on a card, and the newest of those that wait."""
    running = api.get("/jobs", state="running", limit=PAGE)
    while running["more"]:
        later = api.get("/jobs", state="running", limit=PAGE, before=running["jobs"][-1]["id"])
        running = {**later, "jobs": running["jobs"] + later["jobs"]}
    queued = api.get("/jobs", state="queued", limit=WAITING_ASKED)
    return {
        "gpus": api.get("/gpus")["gpus"],
        "jobs": [*queued["jobs"], *running["jobs"]],
        "total": queued["total"] + running["total"],
    }


def _print_once(view: dict[str, Any]) -> None:
    now = time.time()
    click.echo(headline(view)[: terminal_width()] if is_terminal() else headline(view))
    if view["gpus"]:
        click.echo("")
        show(CARD_COLUMNS, card_rows(view, now))
    if waiting := waiting_rows(view, now):
        click.echo("")
        show(WAITING_COLUMNS, waiting)
    if left := more(0, queued_count(view) - len(waiting)):
        note(left)


def queued_count(view: dict[str, Any]) -> int:
    """How many jobs wait, those that are not in the view too."""
    running: int = sum(job["state"] == "running" for job in view["jobs"])
    total: int = view["total"]
    return total - running


def more(cards: int, waiting: int) -> str:
    """What is not shown, and what shows it. Empty when all is."""
    said = []
    if cards > 0:
        said.append(f"{cards} more {'card' if cards == 1 else 'cards'}: `tuneyard gpus`")
    if waiting > 0:
        said.append(
            f"{waiting:,} more {'job waits' if waiting == 1 else 'jobs wait'}: `tuneyard list --state queued --all`"
        )
    return "; ".join(said)


def shares(room: int, cards: int, waiting: int) -> tuple[int, int]:
    """How many rows of the cards and of the jobs that wait are shown in so many lines, headers and gaps included.

    Cards come first; where they leave no room, LEAST_ROWS of what waits are shown all the same.
    """
    overhead = 1 + (2 if waiting else 0)  # the header of the cards; a gap and the header of the jobs
    if cards + waiting + overhead <= room:
        return cards, waiting
    rows = max(0, room - overhead - 1)  # the line that says what is left out
    kept = min(waiting, LEAST_ROWS, rows // 2)
    shown = min(cards, rows - kept)
    return shown, min(waiting, rows - shown)


def headline(view: dict[str, Any]) -> str:
    """One line: cards, how many are busy, their power, jobs."""
    gpus: list[Gpu] = view["gpus"]
    queued = queued_count(view)
    there = [gpu for gpu in gpus if not words.gone(gpu)]
    busy = sum(gpu["job"] is not None for gpu in there)
    watts = [power for gpu in there if (power := words.latest(gpu).get("power_w")) is not None]
    power = f", {sum(watts):,.0f} W" if watts else ""
    cards = f"{len(gpus)} {'card' if len(gpus) == 1 else 'cards'}"
    if gone := len(gpus) - len(there):
        cards += f" ({gone} on hosts that are not there)"
    return f"{cards}, {busy} busy{power}; {view['total'] - queued} running, {queued} queued"


def card_rows(view: dict[str, Any], now: float) -> list[list[Cell | str]]:
    """One row a card under CARD_COLUMNS, with the job on it."""
    jobs = {job["id"]: job for job in view["jobs"]}
    # Of a card that several share, no one job's name and progress are the card's.
    return [
        _card_row(gpu, jobs.get(gpu["job"]) if len(gpu["jobs"]) == 1 else None, now) for gpu in view["gpus"]
    ]


def _card_row(gpu: Gpu, job: Job | None, now: float) -> list[Cell | str]:
    sample = words.latest(gpu)
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
        _on_it(gpu, f"{on_it} {job['name']}".strip() if job else on_it, _heard(gpu, now)),
        _progress(job) if job else "",
        words.eta(job, now) if job else "",
    ]


def _progress(job: Job) -> Cell | str:
    """Told of a trainer that stands still here too: where there is little room, the time to go is not shown."""
    progress, done = job["progress"], words.percent(job["progress"])
    return Cell(f"{done} hangs", "red") if progress and progress.get("stalled") else done


def _heard(gpu: Gpu, now: float) -> str:
    """When the host of a card was heard of last; empty of an older server's."""
    seen = gpu.get("host_seen")
    return "" if seen is None else words.clock(seen, now)


def _on_it(gpu: Gpu, job: str, silence: str = "") -> Cell:
    """What a card does: a fault, its job, or why it is idle. silence: since when its host is not there."""
    if words.gone(gpu):
        told = f"{gpu['host_state']} since {silence}" if silence else f"host is {gpu['host_state']}"
        return Cell(told + (f", had {job}" if job else ""), "red")
    if gpu["fault"]:
        return Cell(f"FAULT: {gpu['fault']}", "red")
    if job:
        return Cell(job, "cyan")
    return Cell("idle" if gpu["host_state"] == "online" else f"idle, host is {gpu['host_state']}", "dim")


def waiting_rows(view: dict[str, Any], now: float) -> list[list[Cell | str]]:
    """One row a queued job under WAITING_COLUMNS, oldest first."""
    waiting = [job for job in reversed(view["jobs"]) if job["state"] == "queued"]
    return [
        [
            str(job["id"]),
            job["name"] or "-",
            str(job["gpus"]),
            Cell(words.ago(job["submitted_at"], now), "dim"),
            words.why(job["reason"], now),
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
        parts.append(Text(""))
        cards, waiting = card_rows(view, now), waiting_rows(view, now)
        said = [hidden_note(CARD_COLUMNS, cards, width)]
        if waiting:
            said.append(hidden_note(WAITING_COLUMNS, waiting, width))
        notes = [Text(text, style="dim") for text in said if text]
        taken = sum(len(console.render_lines(part)) for part in (*parts, *notes))
        shown, kept = shares(console.height - taken, len(cards), len(waiting))
        parts.append(rich_table(CARD_COLUMNS, cards[:shown], width))
        if kept:
            parts += [Text(""), rich_table(WAITING_COLUMNS, waiting[:kept], width)]
        if left := more(len(cards) - shown, queued_count(view) - kept):
            parts.append(Text(left, style="dim", no_wrap=True, overflow="ellipsis"))
        return Group(*parts, *notes)

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
