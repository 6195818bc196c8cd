"""One run on the double: the trainer of a job as workers/ make it, and what it took of the card."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedModel

from benchmarks.memory.double.cases import Case
from benchmarks.memory.real import tokenizer
from jobs.jobfile.spec import JobSpec
from jobs.units import GiB
from workers.model.adapters import cast_adapters, lora_config
from workers.model.build import build_config
from workers.model.quantize import quantise
from workers.trainer.allocator import settle
from workers.trainer.config import trl_config
from workers.trainer.faults.failing import ran_out_of_memory
from workers.trainer.finite import Guard
from workers.trainer.trainers.sft import GuardedSFT


def unfilled(spec: JobSpec) -> PreTrainedModel:
    """The model on the CPU with weights that nobody wrote: pages that are never touched take no memory of the host."""
    options: dict[str, Any] = {
        "dtype": getattr(torch, spec.model.dtype),
        "attn_implementation": spec.model.attention,
    }
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(build_config(spec.model, False), **options)
    made = made.to_empty(device="cpu")
    made.tie_weights()
    for buffer in made.buffers():
        buffer.zero_()
    return quantise(made, torch.cuda.current_device()) if spec.method.kind == "qlora" else made


def rows(case: Case) -> Dataset:
    vocabulary = case.config["vocab_size"]
    ids = [[(7 * n + 3 * index) % vocabulary for n in range(each)] for index, each in enumerate(case.rows)]
    return Dataset.from_dict({"input_ids": ids})


def train(case: Case, folder: str) -> Guard:
    """Train it. Raises what the libraries raise."""
    spec = case.spec
    args = trl_config(spec, case.place, folder, use_cpu=False)
    args.train_sampling_strategy = "sequential"
    guard = Guard(False, lag=True)
    trainer = GuardedSFT(
        guard=guard,
        model=unfilled(spec),
        args=args,
        train_dataset=rows(case),
        processing_class=tokenizer(),
        peft_config=lora_config(spec.method),
    )
    if spec.method.kind != "full":
        cast_adapters(trainer.model, spec)
    # As workers/trainer/train.py has both.
    trainer.longest_first = trainer.fixed_segments = case.allocator == "default"
    trainer.train()
    return guard


def measured(case: Case) -> dict[str, Any]:
    """Columns of the case's row that only a run can fill."""
    outcome, error = "ran", ""
    if case.limit_gib:
        free, total = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction((case.limit_gib * GiB - (total - free)) / total)
    settle(torch.cuda.current_device())  # as a trainer begins
    with tempfile.TemporaryDirectory(prefix="tuneyard-double-") as folder:
        try:
            guard = train(case, folder)
            if guard.fault is not None:
                outcome, error = "failed", str(guard.fault)
        except Exception as problem:
            if not ran_out_of_memory(problem):
                raise
            outcome, error = "oom", str(problem).splitlines()[0][:120]
    stats = torch.cuda.memory_stats()
    free, total = torch.cuda.mem_get_info()
    return {
        "outcome": outcome,
        "error": error,
        "requested_bytes": stats["requested_bytes.all.peak"],
        "allocated_bytes": torch.cuda.max_memory_allocated(),
        "reserved_bytes": torch.cuda.max_memory_reserved(),
        "outside_bytes": total - free - torch.cuda.memory_reserved(),
        "retries": stats["num_alloc_retries"],
    }
