"""How far an expected end may be off. Pure."""

from __future__ import annotations

# How far an expected end may be off, as a share of the time until then. Projected step times were within 1.3x in the
# median and twice in the worst of the runs in docs/accuracy.md; a measured pace is within a few per cent once a
# dozen steps are done (the first ones are slower).
PROJECTED_SPREAD = 1.0
MEASURED_SPREAD = 0.05
SETTLED_STEPS = 12


def steps_left(total: int | None, done: float) -> float | None:
    """Optimizer steps to go, None where nobody knows how many there are in all."""
    return None if total is None else max(0.0, total - done)
