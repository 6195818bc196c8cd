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
    ("expandable", "alike"): Terms(0.0, 100 * MiB, 0.0113, 0.0299, 0.0),
    ("expandable", "varied"): Terms(0.0, 122 * MiB, 0.0066, 0.0421, 0.1046),
    ("default", "alike"): Terms(0.0011, 0 * MiB, 0.0226, 0.0, 0.4706),
    ("default", "varied"): Terms(0.0023, 0 * MiB, 0.2116, 0.0, 0.0),
}
