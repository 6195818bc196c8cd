"""Lines of numbers drawn in braille: two dots by four in each cell. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from orchestrator.cli.top.marks import Line, fit

# Of a cell, the dot in column 0 or 1 and row 0 to 3 (Unicode 16, block "Braille Patterns").
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
Curve = Sequence[tuple[float, float]]


def plot(
    curve: Curve,
    width: int,
    height: int,
    named: Callable[[float], str],
    levels: Sequence[tuple[float, str]] = (),
    none: str = "nothing yet",
) -> list[Line]:
    """A curve in lines of a width, its scale at the left. named: how a value is written; levels: values that have a
    dashed line of their own, with what they are; none: what stands there without a curve.
    """
    known = [(x, y) for x, y in curve if math.isfinite(y)]
    values = [y for _, y in known] + [level for level, _ in levels]
    if not known:
        blank = [[(" " * width, "")] for _ in range(height)]
        blank[height // 2] = [(fit(f"  {none}", width), "dim")]
        return blank
    low, high = min(values), max(values)
    if high <= low:
        low, high = low - (abs(low) or 1.0) * 0.05, high + (abs(high) or 1.0) * 0.05
    scale = {0: named(high), height - 1: named(low)}
    margin = max(map(len, scale.values()))
    columns = max(4, width - margin - 1)
    cells = _drawn(known, low, high, columns, height)
    marked = {round((height - 1) * (high - level) / (high - low)): label for level, label in levels}
    lines: list[Line] = []
    for row in range(height):
        line: Line = [(fit(scale.get(row, ""), margin, right=True) + "│", "dim")]
        drawn = "".join(chr(0x2800 + cell) if cell else " " for cell in cells[row])
        if row in marked:
            line += _over(drawn, f" {marked[row]} "[: columns - 2])
        else:
            line.append((drawn, "busy"))
        lines.append(line)
    return lines


def _over(drawn: str, label: str) -> Line:
    """A line of dots with a dashed level behind it, named at its right end."""
    free = len(drawn) - len(label)
    line: Line = [(one, "busy") if one != " " else ("╌", "mark") for one in drawn[:free]]
    return [*line, (label, "mark")]


def _drawn(known: Curve, low: float, high: float, columns: int, height: int) -> list[list[int]]:
    """Bits of each cell. Points are joined, and those of one dot's column from the least to the greatest."""
    cells = [[0] * columns for _ in range(height)]
    first, last = known[0][0], known[-1][0]
    wide, tall = 2 * columns - 1, 4 * height - 1
    by_column: dict[int, list[int]] = {}
    for x, y in known:
        at = round(wide * (x - first) / (last - first)) if last > first else 0
        by_column.setdefault(at, []).append(round(tall * (high - y) / (high - low)))
    before: tuple[int, int] | None = None
    for at in sorted(by_column):
        rows = by_column[at]
        if before is not None:
            _join(cells, before, (at, rows[0]))
        _join(cells, (at, min(rows)), (at, max(rows)))
        before = at, rows[-1]
    return cells


def _join(cells: list[list[int]], one: tuple[int, int], other: tuple[int, int]) -> None:
    """A straight line of dots."""
    (x, y), (to_x, to_y) = one, other
    steps = max(abs(to_x - x), abs(to_y - y), 1)
    for step in range(steps + 1):
        at, row = x + round((to_x - x) * step / steps), y + round((to_y - y) * step / steps)
        cells[row // 4][at // 2] |= _DOTS[at % 2][row % 4]
