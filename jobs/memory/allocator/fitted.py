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
    ("expandable", "alike"): Terms(0.0, 30 * MiB, 0.0122, 0.0008, 0.1566),  # 81 runs
    ("expandable", "varied"): Terms(0.0, 93 * MiB, 0.0094, 0.0425, 0.0866),  # 83 runs
    ("default", "alike"): Terms(0.0022, 27 * MiB, 0.0153, 0.0384, 0.3184),  # 76 runs
    ("default", "varied"): Terms(0.0025, 139 * MiB, 0.0289, 0.0447, 0.1887),  # 60 runs
}
