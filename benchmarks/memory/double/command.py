"""What `python -m benchmarks.memory --double` does: sweep, edges, fit; then the figures on the judged half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.memory.double import edges, fit, judge, sweep
from benchmarks.memory.double.cases import drawn
from benchmarks.memory.double.rows import CSV, runs_of


def run(
    *, sweeps: int, edge_runs: int, seed: int, seconds: float, fits: bool, plot: Path | None
) -> dict[str, Any]:
    """sweeps, edge_runs: how many more to run on the double first, which needs `make cuda-double`."""
    if sweeps:
        sweep.run(drawn(seed, sweep.share_of_card), CSV, sweeps, seconds)
    if edge_runs:
        edges.run(seed, edges.CSV, edge_runs, seconds)
    runs = runs_of(CSV)
    if fits:
        fit.run(runs)
    found = judge.run(runs)
    if plot is not None:
        judge.plot(runs, plot)
    at_edges = edges.sums(edges.CSV)
    print(
        f"{at_edges['edges']} longest sequences said to fit were run, {at_edges['false_fits']} ran out of memory"
    )
    met = found.pop("met") and not at_edges["false_fits"]
    return {
        "benchmark": "memory",
        "part": "the CUDA double: real allocator, no GPU",
        **found,
        **at_edges,
        "met": met,
    }
