"""What a traced step allocates and frees, in order, such that a step of another depth can be made of it.

A segment of a profile (jobs/memory/profile.py) is traced once and stands for many layers. So a tensor that outlives
its segment is known by who frees it, seen from the segment that took it (HOME and the others), and by its place among
those of the same kind; whoever frees it names both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jobs.memory.profile import Event

# Who frees a tensor: the segment that took it; the one that runs next; the same layer's backward; the backward of the
# layer above (a layer's output); the loss, for all layers at once; nobody (a gradient); anybody else.
HOME, NEXT, OWN, ABOVE, LOSS, NOBODY, OTHERS = range(7)
LEAST_BYTES = 2**16  # smaller ones of fixed size are left out

# An event, taken: (kind, fixed, token, pair, ...), bytes as in Line. Freed: (-1 - kind, place among those of its kind).


class Noted(NamedTuple):
    """A storage that came or went. key: its number; shares: of its bytes, by place, None where it goes."""

    key: int
    shares: tuple[tuple[int, int], ...] | None


def encoded(
    segments: Mapping[str, Sequence[Noted]], line: Callable[[tuple[tuple[int, int], ...]], Sequence[float]]
) -> dict[str, tuple[Event, ...]]:
    """Events of each segment.

    segments: what was noted, in the order in which they ran; line: shares as a Line's values.
    """
    names = list(segments)
    places = _places(names)
    taken: dict[int, tuple[int, Sequence[float]]] = {}
    freed: dict[int, int] = {}
    for index, name in enumerate(names):
        for key, shares in segments[name]:
            if shares is None:
                freed[key] = index
            elif any((values := line(shares))[1:]) or values[0] >= LEAST_BYTES:
                taken[key] = index, values
    kinds = {
        key: _kind(places, index, freed[key]) if key in freed else NOBODY for key, (index, _) in taken.items()
    }
    made: dict[str, tuple[Event, ...]] = {}
    order: dict[int, int] = {}  # place of each among those of its kind that its segment took
    for name in names:
        events: list[Event] = []
        counts = [0] * (OTHERS + 1)
        for key, shares in segments[name]:
            if key not in taken:
                continue
            kind = kinds[key]
            if shares is not None:
                order[key] = counts[kind]
                counts[kind] += 1
                events.append((kind, *map(_short, taken[key][1])))
            elif kind == LOSS:
                if (-1 - LOSS, 0) not in events:
                    events.append((-1 - LOSS, 0))
            elif kind != OTHERS:
                events.append((-1 - kind, order[key]))
        made[name] = tuple(events)
    return made


def _short(value: float) -> float:
    return int(value) if value == int(value) else value


def _places(names: Sequence[str]) -> list[int]:
    """Height of each segment: 0 for what comes before the layers, the layers, the loss above them; backward, it is the
    same with the other sign, less 1."""
    if "loss_backward" not in names:
        return list(range(len(names)))
    top = names.index("loss")
    return [index if index <= top else -1 - (2 * top + 1 - index) for index in range(len(names))]


def _kind(places: Sequence[int], taken: int, freed: int) -> int:
    if taken == freed:
        return HOME
    if freed == taken + 1:
        return NEXT
    at, to = places[taken], places[freed]
    if at >= 0 > to:
        height = -1 - to
        if height == at:
            return OWN
        if height == at + 1:
            return ABOVE
    return LOSS if 0 <= at < to == max(places) else OTHERS
