"""Bars, sparklines, symbols and colours of `tuneyard top`. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from jobs.units import gib
from orchestrator.cli.render.table import clean

Piece = tuple[str, str]  # text, and the role that its colour follows from
Line = list[Piece]

EIGHTHS = " ▏▎▍▌▋▊▉█"
SPARKS = "▁▂▃▄▅▆▇"  # no full block: lines below each other stay apart
EMPTY, MARK = "·", "┃"
# Each state has a sign of its own: without colour nothing is lost.
SIGNS = {"busy": "●", "free": "○", "idle": "◐", "faulty": "✖", "away": "?", "closed": "–"}
STATE_ROLES = {
    "busy": "busy",
    "free": "dim",
    "idle": "warn",
    "faulty": "bad",
    "away": "bad",
    "closed": "dim",
}

# Role -> colour on a dark background. Okabe and Ito, "Color Universal Design" (2008); Tol, "Colour Schemes" (2021),
# bright: both told apart with any colour blindness.
PALETTES: dict[str, dict[str, str]] = {
    "okabe-ito": {
        "busy": "#56b4e9",
        "good": "#009e73",
        "warn": "#f0e442",
        "bad": "#d55e00",
        "memory": "#0072b2",
        "mark": "#e69f00",
        "spark": "#8fa8bf",
        "accent": "#e69f00",
    },
    "tol": {
        "busy": "#66ccee",
        "good": "#228833",
        "warn": "#ccbb44",
        "bad": "#ee6677",
        "memory": "#4477aa",
        "mark": "#ccbb44",
        "spark": "#9a9fb5",
        "accent": "#66ccee",
    },
}
# What a role looks like beside its colour, and all of it without one.
ATTRIBUTES = {
    "dim": "dim",
    "head": "bold",
    "title": "bold reverse",
    "bad": "bold",
    "accent": "bold",
    "key": "reverse",
}
CHOSEN = "on #26415e"  # the line that the cursor is on; without colour it is reversed


def style(role: str, palette: str | None) -> str:
    """A role as a rich style. palette: one of PALETTES, None: no colour."""
    colour = "" if palette is None else PALETTES[palette].get(role, "")
    return f"{ATTRIBUTES.get(role, '')} {colour}".strip()


def wide(text: str) -> int:
    """Terminal cells that a text takes."""
    if text.isascii():
        return len(text)
    return sum(_cells(one) for one in text)


def _cells(one: str) -> int:
    if unicodedata.combining(one) or unicodedata.category(one) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(one) in "WF" else 1


def fit(text: str, width: int, right: bool = False) -> str:
    """A text in exactly so many cells, cut with an ellipsis; nothing of it drives the terminal."""
    text = clean(text)
    size = wide(text)
    if size > width:
        kept, size = "", 0
        for one in text:
            if size + _cells(one) > max(0, width - 1):
                break
            kept, size = kept + one, size + _cells(one)
        text, size = (kept + "…", size + 1) if width > 0 else ("", 0)
    blank = " " * (width - size)
    return blank + text if right else text + blank


def bar(share: float | None, width: int, mark: float | None = None, role: str = "memory") -> Line:
    """A bar of so many cells, full at 1, in eighths of a cell. mark: where a mark stands, as a share."""
    cells = [EMPTY] * width
    if share is not None:
        eighths = round(max(0.0, min(1.0, share)) * width * 8)
        if share > 0:
            eighths = max(1, eighths)
        full, rest = divmod(eighths, 8)
        cells[:full] = "█" * full
        if rest:
            cells[full] = EIGHTHS[rest]
    filled = 0 if share is None else min(width, -(-eighths // 8))
    line: Line = []
    at = None if mark is None else max(0, min(width - 1, int(mark * width)))
    for begin, end, piece_role in ((0, filled, role), (filled, width, "dim")):
        if at is not None and begin <= at < end:
            line += [("".join(cells[begin:at]), piece_role), (MARK, "mark")]
            begin = at + 1
        line.append(("".join(cells[begin:end]), piece_role))
    return [piece for piece in line if piece[0]]


def spark(values: Sequence[float | None], width: int, top: float) -> str:
    """The newest values, one a cell, the last at the right; blank where nothing is known."""
    shown = list(values)[-width:]
    drawn = "".join(
        " " if value is None else SPARKS[max(0, min(6, int(value / top * 7)))] if top > 0 else SPARKS[0]
        for value in shown
    )
    return drawn.rjust(width)


def short(value: float | None) -> str:
    """A number in at most five characters: 950, 5.1k, 12k, 1.3M."""
    if value is None:
        return ""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size * 0.9995:
            scaled = value / size
            return f"{scaled:.1f}{unit}" if scaled < 9.95 else f"{scaled:.0f}{unit}"
    return f"{value:.0f}"


def amount(used: int | None, total: int) -> str:
    """Memory used of all, in one unit: 61/80G, 1.9/2.0G, 457/700M, 0.1/5.0T."""
    size, unit = next(
        (2**power, unit)
        for power, unit in ((40, "T"), (30, "G"), (20, "M"))
        if total >= 2**power or unit == "M"
    )
    digits = 1 if unit != "M" and total < 10 * size else 0
    return f"{'-' if used is None else f'{used / size:.{digits}f}'}/{total / size:.{digits}f}{unit}"


def quantity(count: int) -> str:
    """Bytes of a fleet: 5.0 TiB."""
    return f"{count / 2**40:,.1f} TiB" if count >= 2**40 else gib(count)
