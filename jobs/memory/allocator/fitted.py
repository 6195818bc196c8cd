"""The allocator's terms in numbers, fitted to runs on the CUDA double: real allocator, no GPU.

From benchmarks/memory/double/runs.csv, the half of the shapes that benchmarks/memory/double/shapes.py has for fitting.
To work them out again: make bench-memory ARGS='--double --fit', which prints this table.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.units import MiB


@dataclass(frozen=True)
class Terms:
    """segments_bytes: in any case; shares of the bytes that move in a step outside the loss: remainders of blocks that
    are not split (allocated), moving; transient: of what a layer holds only while it runs; loss: of what it works in.
    """

    remainders: float
    segments_bytes: float
    moving: float
    transient: float
    loss: float


FITTED = {
    ("expandable", "alike"): Terms(0.0, 23 * MiB, 0.0149, 0.0033, 0.1462),  # 81 runs
    ("expandable", "varied"): Terms(0.0, 93 * MiB, 0.0094, 0.042, 0.0889),  # 83 runs
    ("default", "alike"): Terms(0.0024, 25 * MiB, 0.0161, 0.0449, 0.3101),  # 76 runs
    ("default", "varied"): Terms(0.0025, 139 * MiB, 0.0289, 0.0446, 0.1892),  # 60 runs
}
