"""One case of the GPU benchmark in a process of its own: trains, and prints what it took as one JSON line.

    python -m benchmarks.gpu.child '{"shape": "1B", "method": "lora", "rung": "off", "length": 512, "limit_gib": 0}'

With a limit the allocator gets what a card of that size would leave it, and the longest sequence that trains there is
looked for, to MULTIPLE tokens.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import pynvml
import torch
from transformers import TrainerCallback
from trl import SFTTrainer

from benchmarks.gpu.matrix import LONGEST, MULTIPLE, RUNGS, Case, limit_share
from benchmarks.memory.real import rows, tokenizer
from jobs.jobfile.spec import JobSpec
from jobs.memory.rung import Rung
from workers.model.adapters import cast_adapters, lora_config
from workers.model.build import build_config, build_model
from workers.trainer.config import trl_config
from workers.trainer.faults.failing import ran_out_of_memory


class _Clock(TrainerCallback):
    """When each step ended, with the card idle."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def trained(spec: JobSpec, rung: Rung, folder: str) -> list[float]:
    """When the steps of this training ended: perf_counter's seconds. Raises what the libraries raise."""
    clock = _Clock()
    trainer = SFTTrainer(
        model=build_model(spec, build_config(spec.model, False), False, use_cpu=False),
        args=trl_config(spec, rung, folder, use_cpu=False),
        train_dataset=rows(spec, rung),
        processing_class=tokenizer(),
        peft_config=lora_config(spec.method),
        callbacks=[clock],
    )
    if spec.method.kind != "full":
        cast_adapters(trainer.model, spec)
    trainer.train()
    return clock.ends


def _runs(case: Case, length: int, folder: str) -> bool:
    """Whether it trains at this length; everything it took is given back."""
    try:
        trained(case.spec(length), RUNGS[case.rung], folder)
        return True
    except Exception as error:
        if not ran_out_of_memory(error):
            raise
        return False
    finally:
        gc.collect()
        torch.cuda.empty_cache()


def longest(case: Case, folder: str) -> int:
    """The longest length that trains, to MULTIPLE tokens; 0 where not even that does."""
    good, bad = 0, 8 * MULTIPLE
    while bad <= LONGEST and _runs(case, bad, folder):
        good, bad = bad, 2 * bad
    while bad - good > MULTIPLE:
        middle = (good + bad) // 2 // MULTIPLE * MULTIPLE
        if _runs(case, middle, folder):
            good = middle
        else:
            bad = middle
    return good


@dataclass(frozen=True)
class Context:
    """The card with a CUDA context of this process, and nothing else of it. before: bytes in use without it."""

    handle: Any
    before: int
    bytes: int

    @classmethod
    def made(cls) -> Context:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        before = pynvml.nvmlDeviceGetMemoryInfo(handle).used
        torch.ones(1, device="cuda")
        torch.cuda.synchronize()
        used = pynvml.nvmlDeviceGetMemoryInfo(handle).used
        return cls(handle, before, used - before - torch.cuda.memory_reserved())

    def limit(self, gib: int) -> None:
        """Leave torch's allocator what a card of this size would."""
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(limit_share(gib, self.bytes, total))

    def used(self) -> int:
        """Bytes in use since. The allocator gives nothing back while it trains, so after training this is the peak."""
        return int(pynvml.nvmlDeviceGetMemoryInfo(self.handle).used) - self.before


def step_s(ends: list[float]) -> float:
    """Median seconds of the steps after the first."""
    return round(statistics.median(end - begin for begin, end in itertools.pairwise(ends)), 4)


def measure(case: Case) -> dict[str, Any]:
    """Columns of the case's row that only a run can fill."""
    context = Context.made()
    found: dict[str, Any] = {"context_bytes": context.bytes}
    with tempfile.TemporaryDirectory() as folder:
        if case.limit_gib:
            context.limit(case.limit_gib)
            return {**found, "outcome": "ran", "runs_up_to_tokens": longest(case, folder)}
        torch.cuda.reset_peak_memory_stats()
        try:
            ends = trained(case.spec(), RUNGS[case.rung], folder)
        except Exception as error:
            if not ran_out_of_memory(error):
                raise
            return {**found, "outcome": "oom", "error": str(error).splitlines()[0][:160]}
        return {
            **found,
            "outcome": "ran",
            "allocated_bytes": torch.cuda.max_memory_allocated(),
            "reserved_bytes": torch.cuda.max_memory_reserved(),
            "nvml_bytes": context.used(),
            "step_s": step_s(ends),
        }


if __name__ == "__main__":
    asked = Case(**json.loads(sys.argv[1]))
    try:
        answer = measure(asked)
    except Exception as error:  # the edge of this process: the case's row says what went wrong
        answer = {"outcome": "failed", "error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    print(json.dumps(answer), flush=True)
    os._exit(0)  # torch's threads may abort a process that ends soon after its work
