"""Where in a row of layers a step can be highest: of dozens of layers only those at the ends of what repeats.

What is live at a layer is linear in how many layers of each type lie before it (forward) or behind it (backward).
A layer whose counts lie halfway between those of two others of its type is therefore never above both, whatever
the sizes, and needs no look. Of equal layers with every n-th checkpointed, that leaves fewer than ten.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Places:
    """For several every_n at once, in the last axis; a type is mode x names + name, mode 1 for checkpointed layers.

    forward, backward: [place, n], the type of the layer there; the last backward place is what comes after all
    layers, of type `types`. before: [type, place, n], layers that ran before it forward; behind: those that ran
    before it backward; giving: those of `behind` that are not the lowest of their name, for the types `repeated`
    alone, as there are none of others. total: [type, n].
    """

    forward: Ints
    before: Floats
    backward: Ints
    behind: Floats
    giving: Floats
    repeated: Ints
    total: Floats


@lru_cache(maxsize=512)
def places(names: tuple[str, ...], every_n: tuple[int, ...]) -> Places:
    """The places worth a look in layers of these names, from the first on, for each way of checkpointing."""
    rows = [_rows(names, n) for n in every_n]
    forward, backward = (_padded([pair[way] for pair in rows]) for way in (0, 1))
    types = 2 * len(set(names))
    behind = backward[1 : 1 + types].astype(np.float64)
    kinds = list(dict.fromkeys(names))
    repeated = np.array([t for t in range(types) if names.count(kinds[t % len(kinds)]) > 1], dtype=np.int64)
    return Places(
        forward=forward[0],
        before=forward[1:].astype(np.float64),
        backward=backward[0],
        behind=behind,
        giving=backward[1 + types :].astype(np.float64)[repeated],
        repeated=repeated,
        total=np.ascontiguousarray(behind[:, -1]),
    )


def _padded(ways: list[list[tuple[int, ...]]]) -> Ints:
    """[column, place, way]; the shorter ones repeat their last place."""
    longest = max(map(len, ways))
    filled: Any = [way + way[-1:] * (longest - len(way)) for way in ways]
    return np.ascontiguousarray(np.array(filled, dtype=np.int64).T)


@lru_cache(maxsize=4096)
def _rows(names: tuple[str, ...], every_n: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """(type, *before) of forward places and (type, *behind, *giving) of backward ones, in the order they are met."""
    kinds = list(dict.fromkeys(names))
    width = 2 * len(kinds)
    lowest = {names.index(kind) for kind in kinds}
    types = [
        kinds.index(name) + len(kinds) * (every_n > 0 and index % every_n == 0)
        for index, name in enumerate(names)
    ]
    counts = [0] * width
    forward = []
    for kind in types:
        forward.append((kind, *counts))
        counts[kind] += 1
    counts = [0] * 2 * width
    backward = []
    for index in reversed(range(len(names))):
        backward.append((types[index], *counts))
        counts[types[index]] += 1
        counts[width + types[index]] += index not in lowest
    return _corners(forward), [*_corners(backward), (width, *counts)]


def _corners(rows: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Those rows that lie halfway between no two others of their type (their first number)."""
    known = set(rows)
    earlier: dict[int, list[tuple[int, ...]]] = {}
    kept = []
    for row in rows:
        same = earlier.setdefault(row[0], [])
        # Counts only grow along the way, so one of the two comes before.
        if not any(
            tuple(2 * a - b for a, b in zip(row, other, strict=True)) in known for other in reversed(same)
        ):
            kept.append(row)
        same.append(row)
    return kept
