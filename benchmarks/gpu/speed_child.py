"""One run of the GPU speed benchmark in a process of its own: trains, and prints how long a step took as one JSON line.

python -m benchmarks.gpu.speed_child '{"work": {...benchmarks.gpu.speed.Work}, "rung": {...jobs.rung.Rung}}'
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any

import torch

from benchmarks.gpu.child import Context, step_s, trained
from benchmarks.gpu.speed import Work
from jobs.memory.rung import Rung
from workers.trainer.faults.failing import ran_out_of_memory


def measure(work: Work, rung: Rung) -> dict[str, Any]:
    """Columns of the row that only a run can fill."""
    context = Context.made()
    found: dict[str, Any] = {"context_bytes": context.bytes}
    if work.limit_gib:
        context.limit(work.limit_gib)
    with tempfile.TemporaryDirectory() as folder:
        try:
            ends = trained(work.spec(), rung, folder)
        except Exception as error:
            if not ran_out_of_memory(error):
                raise
            return {**found, "outcome": "oom", "error": str(error).splitlines()[0][:160]}
    return {
        **found,
        "outcome": "ran",
        "step_s": step_s(ends),
        "allocated_bytes": torch.cuda.max_memory_allocated(),
        "nvml_bytes": context.used(),
    }


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    try:
        answer = measure(Work(**asked["work"]), Rung(**asked["rung"]))
    except Exception as error:  # the edge of this process: the run's row says what went wrong
        answer = {"outcome": "failed", "error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    print(json.dumps(answer), flush=True)
    os._exit(0)  # torch's threads may abort a process that ends soon after its work
