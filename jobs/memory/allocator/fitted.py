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
    ("expandable", "alike"): Terms(0.0, 72 * MiB, 0.008, 0.0217, 0.1103),  # 35 runs
    ("expandable", "varied"): Terms(0.0, 121 * MiB, 0.0069, 0.032, 0.1378),  # 35 runs
    ("default", "alike"): Terms(0.0019, 33 * MiB, 0.0187, 0.0, 0.4662),  # 28 runs
    ("default", "varied"): Terms(0.002, 163 * MiB, 0.0102, 0.0, 0.3541),  # 27 runs
}
