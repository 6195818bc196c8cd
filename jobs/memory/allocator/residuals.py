"""How far the double's measurements lay from projections: the prior, until a fleet has measured its own.

Quantiles over the runs in benchmarks/memory/double/runs.csv, each against terms that were fitted without its shape. To
work them out again: make bench-memory ARGS='--double --fit', which prints this table.
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
    ("expandable", "alike"): Residuals(  # 76 runs
        live=(
            (-0.001, 0.0),
            (-0.004, 0.004),
            (-0.007, 0.007),
            (-0.009, 0.009),
            (-0.01, 0.01),
            (-0.012, 0.012),
        ),
        beside=(
            (-0.005, 0.0),
            (-0.013, 0.005),
            (-0.021, 0.025),
            (-0.023, 0.043),
            (-0.039, 0.056),
            (-0.039, 0.056),
        ),
    ),
    ("expandable", "varied"): Residuals(  # 60 runs
        live=(
            (-0.001, 0.0),
            (-0.004, 0.004),
            (-0.008, 0.007),
            (-0.009, 0.009),
            (-0.024, 0.01),
            (-0.024, 0.012),
        ),
        beside=(
            (-0.003, 0.0),
            (-0.014, 0.007),
            (-0.018, 0.019),
            (-0.025, 0.039),
            (-0.044, 0.051),
            (-0.044, 0.051),
        ),
    ),
    ("default", "alike"): Residuals(  # 73 runs
        live=(
            (-0.001, 0.0),
            (-0.004, 0.004),
            (-0.007, 0.007),
            (-0.009, 0.016),
            (-0.01, 0.019),
            (-0.012, 0.019),
        ),
        beside=(
            (0.0, 0.001),
            (-0.017, 0.023),
            (-0.032, 0.037),
            (-0.05, 0.046),
            (-0.071, 0.12),
            (-0.071, 0.12),
        ),
    ),
    ("default", "varied"): Residuals(  # 60 runs
        live=(
            (-0.002, 0.0),
            (-0.004, 0.004),
            (-0.007, 0.007),
            (-0.013, 0.009),
            (-0.023, 0.012),
            (-0.023, 0.012),
        ),
        beside=(
            (0.0, 0.008),
            (-0.01, 0.028),
            (-0.019, 0.06),
            (-0.039, 0.097),
            (-0.062, 0.102),
            (-0.062, 0.102),
        ),
    ),
}
