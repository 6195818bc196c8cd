"""Rows of a forward pass without gradients in the table that jobs/memory/peaks.py makes of a profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

from jobs.cards import Traced
from jobs.memory.moments.highest import Floats
from jobs.memory.profile import Line, MemoryProfile, Pass

# Rows of a pass without gradients, beside two for each layer: before them, and of the loss.
BEFORE_ALONE, LOSS_ALONE = 2, 3


def alone_rows(found: Pass, names: Sequence[str], loss: Pass) -> list[Sequence[Line]]:
    """A forward pass without gradients, and what it computes. loss: of the training step."""
    own = found["loss"].peaks
    worked = [[added(found["before"].flops, found["loss"].flops)], *([found[name].flops] for name in names)]
    return [
        [found["before"].delta],
        found["before"].peaks,
        *([found[name].delta] for name in names),
        *(found[name].peaks for name in names),
        # Traced beyond one chunk, where the loss works in buffers of a whole one. Fewer tokens take no more of
        # those than the loss does in training, beside what grows with the tokens here (logits, if they stay).
        own,
        loss["loss"].peaks or own,
        [replace(line, fixed=0.0) for line in own],
        *worked,
    ]


def present(profile: MemoryProfile, kind: Traced) -> list[str]:
    """Passes without gradients that there are, in the order of a table."""
    found = {"eval": profile.evaluation(kind), "reference": profile.reference(kind)}
    return [name for name, one in found.items() if one is not None]


def split(values: Floats, names: int) -> list[Floats]:
    each = BEFORE_ALONE + 2 * names + LOSS_ALONE + 1 + names
    return [values[start : start + each] for start in range(0, len(values), each)]


def added(*lines: Line) -> Line:
    """The sum of lines, one at least."""
    return reduce(Line.plus, lines)
