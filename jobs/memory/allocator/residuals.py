"""How far the double's measurements lay from projections: the prior, until a fleet has measured its own.

Quantiles over the runs in benchmarks/memory/double/runs.csv, each against terms that were fitted without its shape, and
with torch's default allocator against its simulation, which has no fit (jobs/memory/allocator/replay.py). To work them
out again: make bench-memory ARGS='--double --fit', which prints this table.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCES = (0.5, 0.75, 0.9, 0.95, 0.975, 0.99)
_Z = [NormalDist().inv_cdf(confidence) for confidence in CONFIDENCES]


@dataclass(frozen=True)
class Residuals:
    """live, beside: (low, high) at each of CONFIDENCES, as Margin in jobs/memory/projection.py has both."""

    live: tuple[tuple[float, float], ...]
    beside: tuple[tuple[float, float], ...]

    def at(self, confidence: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """(low, high) of both at this confidence: between two known ones, and beyond, along a line in deviations."""
        return _at(self.live, confidence), _at(self.beside, confidence)


def _at(ends: tuple[tuple[float, float], ...], confidence: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf(confidence)
    if z <= _Z[0]:
        return ends[0]
    index = min(bisect_left(_Z, z), len(_Z) - 1)
    share = (z - _Z[index - 1]) / (_Z[index] - _Z[index - 1])
    low, high = (a + share * (b - a) for a, b in zip(ends[index - 1], ends[index], strict=True))
    return low, high


RESIDUALS = {
    ("expandable", "alike"): Residuals(  # 163 runs
        live=(
            (-0.001, 0.0),
            (-0.004, 0.004),
            (-0.007, 0.007),
            (-0.009, 0.009),
            (-0.01, 0.01),
            (-0.012, 0.012),
        ),
        beside=(
            (0.0, 0.001),
            (-0.009, 0.01),
            (-0.018, 0.024),
            (-0.021, 0.032),
            (-0.024, 0.039),
            (-0.03, 0.07),
        ),
    ),
    ("expandable", "varied"): Residuals(  # 143 runs
        live=(
            (-0.001, 0.0),
            (-0.004, 0.004),
            (-0.007, 0.007),
            (-0.023, 0.009),
            (-0.046, 0.01),
            (-0.075, 0.012),
        ),
        beside=(
            (-0.001, 0.0),
            (-0.009, 0.013),
            (-0.019, 0.025),
            (-0.022, 0.032),
            (-0.029, 0.044),
            (-0.029, 0.053),
        ),
    ),
    ("default", "alike"): Residuals(  # 169 runs
        live=(
            (-0.001, 0.0),
            (-0.004, 0.004),
            (-0.007, 0.007),
            (-0.009, 0.009),
            (-0.01, 0.01),
            (-0.013, 0.022),
        ),
        beside=(
            (-0.001, 0.0),
            (-0.003, 0.003),
            (-0.012, 0.009),
            (-0.022, 0.015),
            (-0.03, 0.02),
            (-0.068, 0.044),
        ),
    ),
    ("default", "varied"): Residuals(  # 142 runs
        live=(
            (-0.001, 0.0),
            (-0.004, 0.004),
            (-0.008, 0.007),
            (-0.011, 0.009),
            (-0.023, 0.01),
            (-0.046, 0.012),
        ),
        beside=(
            (0.0, 0.001),
            (-0.003, 0.008),
            (-0.023, 0.022),
            (-0.057, 0.035),
            (-0.07, 0.044),
            (-0.091, 0.073),
        ),
    ),
}

# Of projections on the default allocator by terms alone, where nothing was simulated (jobs/memory/allocator/replay.py).
ROUGH = {
    "alike": Residuals(  # 169 runs
        live=(
            (-0.002, 0.0),
            (-0.004, 0.004),
            (-0.007, 0.007),
            (-0.009, 0.011),
            (-0.01, 0.017),
            (-0.013, 0.029),
        ),
        beside=(
            (0.0, 0.004),
            (-0.016, 0.019),
            (-0.034, 0.041),
            (-0.048, 0.051),
            (-0.058, 0.068),
            (-0.083, 0.104),
        ),
    ),
    "varied": Residuals(  # 142 runs
        live=(
            (-0.003, 0.0),
            (-0.004, 0.004),
            (-0.007, 0.007),
            (-0.013, 0.009),
            (-0.02, 0.01),
            (-0.046, 0.021),
        ),
        beside=(
            (-0.005, 0.0),
            (-0.022, 0.016),
            (-0.035, 0.04),
            (-0.048, 0.068),
            (-0.063, 0.092),
            (-0.078, 0.141),
        ),
    ),
}
