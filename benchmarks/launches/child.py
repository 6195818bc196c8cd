"""Trains cases in front of the CUDA double, one after another, and prints what each one's last step launched.

    python -m benchmarks.launches.child '[{"shape": "llama", "method": "full", ...}, ..]'

Runs in .venv-cuda with CUDA_DOUBLE_TRACE. A line of JSON for each case: launches of a micro-batch, of clipping and
update, of all else that the step did; and of all of it the kernels that were launched most.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from trl import SFTTrainer

from benchmarks.launches.cases import STEPS, Case
from benchmarks.memory.real import rows, tokenizer
from workers.cuda_double.traces import read_traces
from workers.model.adapters import cast_adapters, lora_config
from workers.model.build import build_config, build_model
from workers.trainer.config import trl_config

MOST = 8


class _Counted(TrainerCallback):
    """Counts kernels at the marks of the last step, from the end of the one before. Reads this process's own trace."""

    def __init__(self) -> None:
        self.marks: list[tuple[str, Counter[str]]] = []
        self._path = Path(os.environ["CUDA_DOUBLE_TRACE"]) / f"{os.getpid()}.trace"

    def _mark(self, name: str, state: Any) -> None:
        if state.global_step >= STEPS - 1:
            torch.cuda.synchronize()
            self.marks.append((name, read_traces([self._path]).get("kernel", Counter())))

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark("micro", state)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark("clipped", state)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark("updated", state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark("end", state)


def counted(case: Case, folder: str) -> dict[str, Any]:
    """Launches of the last step by part, and its most frequent kernels."""
    spec, callback = case.spec(), _Counted()
    args = trl_config(spec, case.rung, folder, use_cpu=False)
    if case.optimizer == "foreach":
        args.optim = "adamw_torch"
    trainer = SFTTrainer(
        model=build_model(spec, build_config(spec.model, False), False, use_cpu=False),
        args=args,
        train_dataset=rows(spec, case.rung),
        processing_class=tokenizer(),
        peft_config=lora_config(spec.method),
        callbacks=[callback],
    )
    if spec.method.kind != "full":
        cast_adapters(trainer.model, spec)
    trainer.train()
    tensors = sum(p.requires_grad for p in trainer.model.parameters())
    before, first, second, clipped, updated, end = _last_step(callback.marks)
    micro = (second - first).total()
    kernels = end - before
    return {
        "micro_batch": micro,
        "clipping": (clipped - second).total() - micro,
        "update": (updated - clipped).total(),
        "rest": (first - before).total() - micro + (end - updated).total(),
        "step": kernels.total(),
        "tensors": tensors,
        "kernels": dict(kernels.most_common(MOST)),
    }


def _last_step(marks: list[tuple[str, Counter[str]]]) -> list[Counter[str]]:
    names = ["end", "micro", "micro", "clipped", "updated", "end"]
    assert [name for name, _ in marks[-6:]] == names, [name for name, _ in marks]
    return [counts for _, counts in marks[-6:]]


def main() -> None:
    for asked in json.loads(sys.argv[1]):
        case = Case(**asked)
        with tempfile.TemporaryDirectory() as folder:
            try:
                answer: dict[str, Any] = counted(case, folder)
            except Exception as error:  # the edge of this process: the case's line says what went wrong
                answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        print(json.dumps({"case": asked, **answer}), flush=True)
        gc.collect()
        torch.cuda.empty_cache()
    sys.stdout.flush()
    os._exit(0)  # torch's threads may not outlive the double


if __name__ == "__main__":
    main()
