"""Which of many lines can be the highest: the others need not be worked out for every rung."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.memory.profile import Line


def envelope(lines: Sequence[Line]) -> list[Line]:
    """Those of the lines that are the highest for some number of tokens, among lines with the same share of pairs and
    of valid tokens."""
    by_rest: dict[tuple[float, float], list[Line]] = {}
    for line in sorted(lines, key=lambda line: (line.token, line.fixed)):
        hull = by_rest.setdefault((line.pair, line.valid), [])
        if hull and hull[-1].token == line.token:
            hull.pop()
        while hull and (hull[-1].fixed <= line.fixed or (len(hull) > 1 and _never(hull[-2], hull[-1], line))):
            hull.pop()
        hull.append(line)
    return [line for hull in by_rest.values() for line in hull]


def _never(flat: Line, middle: Line, steep: Line) -> bool:
    """Whether the middle line of three, ordered by their share of tokens, is nowhere above both others."""
    rising, falling = middle.token - flat.token, flat.fixed - middle.fixed
    return (flat.fixed - steep.fixed) * rising <= falling * (steep.token - flat.token)
