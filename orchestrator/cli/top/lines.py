"""How rows become lines of a width: columns, and which of them a narrow terminal keeps. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.units import span
from orchestrator.cli.top import fleet
from orchestrator.cli.top.marks import (
    SIGNS,
    STATE_ROLES,
    Line,
    amount,
    bar,
    fit,
    short,
    spark,
    wide,
)

if TYPE_CHECKING:
    from orchestrator.cli.top.fleet import CardRow, QueueRow
    from orchestrator.schemas import FleetState

NARROW, MEDIUM, WIDE = 80, 110, 140
HOST_ROLES = {"online": "head", "draining": "warn", "drained": "warn"}
Past = Mapping[
    int, Sequence[tuple[float | None, float | None]]
]  # card -> utilisation, watts, the newest last


@dataclass(frozen=True)
class Layout:
    """Widths of the columns, 0: left out. bar, use, watts: of the drawings."""

    width: int
    host: int
    card: int
    bar: int
    use: int
    watts: int
    power: int
    job: int
    step: int
    loss: int

    @property
    def rest(self) -> int:
        """From the job to the end of the line: what a card without a job says has that room."""
        return self.job + self.step + self.loss + 12 + 3 + (1 if self.loss else 0)


def layout(width: int, longest_host: int) -> Layout:
    """The columns of a width. longest_host: of the names to be shown."""
    large, medium = width >= WIDE, width >= MEDIUM
    host = max(4, min(longest_host, 8 if width < MEDIUM else 16))
    made = Layout(
        width=width,
        host=host,
        card=12 if large else 0,
        bar=20 if large else 12 if medium else 10 if width >= NARROW else 4,
        use=12 if large else 8 if medium else 5 if width >= 70 else 0,
        watts=8 if large else 0,
        power=5 if medium else 0,
        job=0,
        step=11 if large else 5,
        loss=6 if medium else 0,
    )
    taken = sum(size for size, _, _ in _columns(made)) + len(_columns(made)) - 1
    job = max(6, width - taken - 1)
    return Layout(**{**vars(made), "job": job})


def _columns(made: Layout) -> list[tuple[int, str, bool]]:
    """Width, title and whether it stands at the right of each column that there is."""
    every = [
        (made.host, "HOST", False),
        (2, "#", True),
        (1, " ", False),
        (made.card, "CARD", False),
        (made.bar, "MEMORY", False),
        (8, "", True),
        (made.use, "USE", False),
        (4, "" if made.use else "USE", True),
        (made.watts, "POWER", False),
        (made.power, "" if made.watts else "POWER", True),
        (4, "TEMP", True),
        (made.job, "JOB", False),
        (made.step, "STEP", True),
        (made.loss, "LOSS", True),
        (5, "TOK/S", True),
        (6, "ETA", True),
    ]
    return [column for column in every if column[0]]


def header(made: Layout, sort: str) -> Line:
    """The titles; that of the column by which hosts are sorted has an arrow."""
    name = {"name": "HOST", "used": "MEMORY", "utilization": "USE", "power": "POWER", "temperature": "TEMP"}
    arrow = "▼" if sort.startswith("-") else "▲"
    sorted_by = name.get(sort.removeprefix("-"))
    said = []
    for size, title, right in _columns(made):
        shown = title + arrow if title == sorted_by and len(title) < size else title
        said.append(fit(shown, size, right))
    return [(fit(" ".join(said), made.width), "head")]


def card_line(card: CardRow, made: Layout, past: Past, now: float, first: bool) -> Line:
    """One card. first: it is the topmost of its host that is shown, and names it."""
    seen = past.get(card.id, ())
    role = STATE_ROLES.get(card.state, "")
    memory = "bad" if card.over else "memory"
    projected = card.projected_bytes
    mark = None if not projected else projected / max(1, card.memory_bytes)
    line: Line = [
        (fit(card.host if first else "", made.host), HOST_ROLES.get(card.host_state, "bad")),
        (fit(str(card.index), 3, right=True) + " ", "dim"),
        (SIGNS.get(card.state, " ") + " ", role),
    ]
    if made.card:
        line.append((fit(card.name, made.card) + " ", "dim"))
    line += bar(card.share, made.bar, mark, memory)
    line.append(
        (
            " " + fit(amount(card.used_bytes, card.memory_bytes), 8, right=True) + " ",
            memory if card.over else "",
        )
    )
    busy = card.utilization
    if made.use:
        line.append((spark([one for one, _ in seen], made.use, 1.0) + " ", "spark"))
    line.append((fit("-" if busy is None else f"{100 * busy:.0f}%", 4, right=True) + " ", ""))
    if made.watts:
        most = max([watts for _, watts in seen if watts is not None], default=0.0)
        line.append((spark([watts for _, watts in seen], made.watts, most) + " ", "spark"))
    if made.power:
        line.append(
            (fit("-" if card.power_w is None else f"{card.power_w:.0f}W", made.power, True) + " ", "")
        )
    heat = card.temperature_c
    line.append(
        (
            fit("-" if heat is None else f"{heat:.0f}°C", 4, right=True) + " ",
            "warn" if (heat or 0) >= 85 else "",
        )
    )
    return line + _job(card, made, now)


def _job(card: CardRow, made: Layout, now: float) -> Line:
    said = fleet.doing(card, now)
    if card.state in ("faulty", "away", "idle", "closed") or not said:
        role = STATE_ROLES.get(card.state, "") if said else "dim"
        return [(fit(said or "free", made.rest), role)]
    step = "" if card.step is None else f"{card.step:,}"
    if card.step is not None and card.total_steps:
        full = f"{card.step:,}/{card.total_steps:,}"
        step = full if len(full) <= made.step else f"{100 * card.step // card.total_steps}%"
    left = "hangs" if card.stalled else "" if card.eta_s is None else span(card.eta_s)
    line: Line = [(fit(said, made.job) + " ", "busy"), (fit(step, made.step, right=True) + " ", "")]
    if made.loss:
        line.append((fit("" if card.loss is None else f"{card.loss:.3f}", made.loss, right=True) + " ", ""))
    line.append((fit(short(card.tokens_per_s), 5, right=True) + " ", ""))
    return [*line, (fit(left, 6, right=True), "bad" if card.stalled else "")]


def queue_header(width: int, waiting: int, shown: int) -> Line:
    """The title of the queue, and how many wait."""
    more = f", the first {shown:,}" if shown < waiting else ""
    name, user, start = _queue_widths(width)
    said = f"{'ID':>7} {fit('QUEUE', name)} {fit('USER', user)} {fit('LIKELY START', start)} "
    return [(fit(said + f"WAITS FOR ({waiting:,}{more})", width), "head")]


def _queue_widths(width: int) -> tuple[int, int, int]:
    return (14, 7, 14) if width < MEDIUM else (24, 12, 20)


def queue_line(job: QueueRow, width: int, now: float) -> Line:
    """One job that waits."""
    name, user, start = _queue_widths(width)
    likely = "" if job.earliest is None else _until(job.earliest, job.latest, now)
    left = max(0, width - 7 - name - user - start - 4)
    return [
        (f"{job.id:>7} ", "accent"),
        (fit(job.name or "-", name) + " ", ""),
        (fit(job.user, user) + " ", "dim"),
        (fit(likely, start) + " ", "good" if likely else "dim"),
        (fit(job.text, left), ""),
    ]


def _until(earliest: float, latest: float | None, now: float) -> str:
    early, late = max(0.0, earliest - now), None if latest is None else max(0.0, latest - now)
    if late is None:
        return f"from {span(early)}"
    if late < 1:
        return "soon"
    return f"within {span(late)}" if early < 1 else f"{span(early)} to {span(late)}"


def title(state: FleetState | None, width: int, now: float) -> Line:
    """The first line of the screen: as many of the totals as there is room for, and the time."""
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    said = "tuneyard"
    for part in fleet.headline(state) if state else ["waiting for the server"]:
        if wide(said) + wide(part) + 3 + len(clock) + 1 > width:
            break
        said += ("  " if said == "tuneyard" else ", ") + part
    return [(fit(said, width - len(clock)), "title"), (clock, "title")]


def keys(pairs: Sequence[tuple[str, str]], width: int) -> Line:
    """The last line: keys and what they do, as many as there is room for."""
    line: Line = []
    room = width
    for key, does in pairs:
        size = len(key) + len(does) + 4
        if size - 3 > room:
            break
        line += [(key, "key"), (f" {does}   "[: room - len(key)], "dim")]
        room = max(0, room - size)
    return [*line, (" " * room, "")]
