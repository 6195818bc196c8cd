"""Projections against real training steps on the CPU: live bytes counted in the run itself.

Each run is a child process that builds model, adapters and trainer as workers/ do for a job, makes two optimizer
steps, and counts every live tensor storage through the second (the first makes the optimizer's state); every fifth run
counts the evaluation after it instead. What a kernel takes and gives back inside one operator can't be seen this way.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from torch._subclasses.fake_tensor import FakeTensor
from transformers import PreTrainedTokenizerFast, TrainerCallback
from trl import SFTTrainer

from benchmarks.memory import preferences, results
from benchmarks.memory.shapes import bare, job
from jobs.jobfile.requirements import lacking
from jobs.jobfile.spec import JobSpec
from jobs.memory.project import project
from jobs.memory.projection import EVALUATION
from jobs.memory.rung import Rung
from workers import machine
from workers.model.adapters import cast_adapters, lora_config
from workers.model.build import build_config, build_model
from workers.model.heads import for_trainer
from workers.profiler.storage_tracker import BLOCK_BYTES, LiveBytes
from workers.profiler.trace import trace
from workers.trainer.config import trl_config
from workers.trainer.finite import Guard
from workers.trainer.trainers import trainer_of

GOALS = {"median": 0.03, "worst": 0.08}
STEPS = 2
SMALL: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "qwen3": {"model_type": "qwen3", "head_dim": 64, "tie_word_embeddings": True},
    "mixtral": {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
}
# Layers that scan their tokens in chunks; without their CUDA kernels, as the trace has them.
SCANNING: dict[str, dict[str, Any]] = {
    "bamba": {"model_type": "bamba", "mamba_d_head": 64, "mamba_d_state": 32, "mamba_chunk_size": 64},
    "mamba2": {"model_type": "mamba2", "head_dim": 64, "state_size": 32, "n_groups": 2, "chunk_size": 64},
    "qwen3_next": {
        "model_type": "qwen3_next",
        "head_dim": 64,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 96,
        "shared_expert_intermediate_size": 96,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 64,
        "linear_value_head_dim": 64,
    },
}
LORA = {"kind": "lora", "rank": 8}
METHODS: dict[str, Any] = {
    "full": "full",
    "lora, dropout": {**LORA, "dropout": 0.05},
    "lora": {**LORA, "dropout": 0.0},
    "qlora": {**LORA, "kind": "qlora", "dropout": 0.05},
}


WHAT = {"": "", "scans": ", of layers that scan", "trainers": ", of trainers of preferences"}


@dataclass(frozen=True)
class Run:
    """One training run. evaluation_batches: of rows held out, where it holds any out."""

    model: str
    method: str
    spec: JobSpec
    rung: Rung
    evaluation_batches: int = STEPS


def draws(count: int, seed: int) -> list[Run]:
    """Runs of small models: methods in turn, the rest at random."""
    chance = random.Random(seed)
    made = []
    for index in range(count):
        method = list(METHODS)[index % len(METHODS)]
        # PEFT 0.21 refuses dropout on adapters of experts ("lora.ParamWrapper does not work with lora_dropout != 0").
        experts = method in ("full", "lora")
        name = chance.choice([one for one in sorted(SMALL) if experts or one != "mixtral"])
        heads = chance.choice([4, 8])
        config = {
            "hidden_size": 64 * heads,
            "intermediate_size": chance.choice([128, 192]) * heads,
            "num_hidden_layers": chance.choice([4, 6, 8]),
            "num_attention_heads": heads,
            "num_key_value_heads": chance.choice([2, heads]),
            "vocab_size": chance.choice([4096, 16000]),
            "max_position_embeddings": 1024,
            **SMALL[name],
        }
        # bitsandbytes can't train on a CPU card after an evaluation.
        evaluates = index % 5 == 4 and method != "qlora"
        rung = Rung(index // len(METHODS) % 3, chance.choice([1, 2, 4]), chance.choice([1, 2]))
        masters = method != "qlora" and chance.random() < 0.5
        spec = job(
            config,
            METHODS[method],
            model={"dtype": "float32" if masters else "bfloat16"},
            training={
                "sequence_length": chance.choice([96, 200, 384, 512]),
                "global_batch": rung.micro_batch * rung.accumulation,
                "steps": STEPS,
                "eval_steps": STEPS if evaluates else None,
                "autocast": chance.choice(["auto", "bfloat16"]) if masters and name != "mixtral" else "auto",
            },
            holdout=0.5 * evaluates,
        )
        made.append(Run(name, method, spec, rung))
    return made


def scanning_draws(count: int, seed: int) -> list[Run]:
    """Runs of small models that scan: in turn full and with adapters, the rest at random.

    mamba2 without adapters: PEFT 0.21 refuses them on its out_proj, which is among the targets of a job by default.
    """
    chance = random.Random(seed)
    made = []
    for index in range(count):
        name = sorted(SCANNING)[index % len(SCANNING)]
        method = "full" if name == "mamba2" else ("full", "lora")[index // len(SCANNING) % 2]
        heads = chance.choice([4, 6])
        config = {
            "hidden_size": 64 * heads,
            "intermediate_size": 128 * heads,
            "num_hidden_layers": chance.choice([5, 6]),
            "num_attention_heads": heads,
            "num_key_value_heads": 2,
            "vocab_size": 4096,
            **SCANNING[name],
        }
        if name == "bamba":
            config |= {"mamba_n_heads": 2 * heads, "attn_layer_indices": [2]}
        elif name == "mamba2":
            config |= {"num_heads": 2 * heads}
        rung = Rung(chance.choice([0, 1, 2]), chance.choice([1, 2, 3]))
        # A state space has no attention to choose.
        model = {"dtype": "bfloat16", "attention": "eager" if name == "mamba2" else "sdpa"}
        training = {
            "sequence_length": chance.choice([100, 200, 300, 500]),
            "global_batch": rung.micro_batch,
            "steps": STEPS,
        }
        made.append(Run(name, method, job(config, METHODS[method], model=model, training=training), rung))
    return made


def preference_draws(count: int, seed: int) -> list[Run]:
    """Runs of the trainers of preferences."""
    return [Run(*drawn) for drawn in preferences.draws(count, seed)]


class _Counted(TrainerCallback):
    """Counts live bytes through the last step, or through the evaluation after it."""

    def __init__(self, evaluation: bool) -> None:
        self.peak_bytes = 0
        self._evaluation = evaluation
        self._resting = 0
        self._live: LiveBytes | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == STEPS - 1 and not self._evaluation:
            self._begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == STEPS and self._evaluation:
            self._begin()
        else:
            self._end()

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._end()

    def _begin(self) -> None:
        self._live = LiveBytes(0, 0, lambda: 0)
        self._resting = 0
        for size, tensor in _storages():
            self._resting += size
            self._live.ignore(tensor)
        self._live.__enter__()

    def _end(self) -> None:
        if self._live is None:
            return
        self._live.__exit__(None, None, None)
        self._live.mark("counted")
        self.peak_bytes = self._resting + round(self._live.segments["counted"].peak(0, 0))
        self._live = None


def _storages() -> Iterator[tuple[int, torch.Tensor]]:
    """Every storage that is there, in blocks, with a tensor of it."""
    gc.collect()
    seen: set[int] = set()
    for thing in gc.get_objects():
        if not issubclass(type(thing), torch.Tensor) or issubclass(type(thing), FakeTensor):
            continue
        if thing.device.type != "cpu" or thing.layout != torch.strided:
            continue
        storage = thing.untyped_storage()
        if storage.data_ptr() and storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            yield -(-storage.nbytes() // BLOCK_BYTES) * BLOCK_BYTES, thing


def rows(spec: JobSpec, rung: Rung, batches: int | None = None) -> Dataset:
    """Token ids: the first row of each micro-batch is as long as can be, the others a little shorter.

    batches: micro-batches, None: as many as the job trains on.
    """
    batches = batches or (spec.training.steps or 1) * rung.accumulation
    length, vocabulary = spec.training.sequence_length, (spec.model.config or {})["vocab_size"]
    ids = [
        [(7 * n + 3 * index) % vocabulary for n in range(length - index % rung.micro_batch)]
        for index in range(batches * rung.micro_batch)
    ]
    return Dataset.from_dict({"input_ids": ids})


def tokenizer() -> PreTrainedTokenizerFast:
    """Two tokens: the rows are token ids already, and only their padding needs one."""
    made = Tokenizer(models.WordLevel({"<eos>": 0, "<pad>": 1}, unk_token="<eos>"))
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>", pad_token="<pad>")


def measured(run: Run, folder: str) -> int:
    """Peak live bytes of one optimizer step of a real run, or of its evaluation where it holds rows out."""
    spec, counted = run.spec, _Counted(run.spec.data.holdout > 0)
    args = trl_config(spec, run.rung, folder, use_cpu=True)
    args.train_sampling_strategy = "sequential"  # so that each micro-batch has one of the longest rows
    trainer = _trainer(run, args, counted)
    if spec.method.kind != "full":
        cast_adapters(trainer.model, spec)
    trainer.train()
    return counted.peak_bytes


def _trainer(run: Run, args: Any, counted: _Counted) -> Any:
    spec, ends = run.spec, tokenizer()
    config = for_trainer(build_config(spec.model, False), spec.trainer, ends.pad_token_id)
    given: dict[str, Any] = {
        "model": build_model(spec, config, False),
        "args": args,
        "processing_class": ends,
        "peft_config": lora_config(spec.method, spec.trainer),
        "callbacks": [counted],
    }
    if spec.trainer == "sft":
        held = rows(spec, run.rung, run.evaluation_batches) if spec.data.holdout else None
        return SFTTrainer(train_dataset=rows(spec, run.rung), eval_dataset=held, **given)
    kind = trainer_of(spec.trainer)
    if kind.reference(spec, run.rung):
        given["ref_model"] = build_model(spec, config, False)
    return kind.trainer(guard=Guard(False), train_dataset=preferences.rows(spec, run.rung), **given)


def projected(run: Run) -> tuple[int, str]:
    """The same by the projection, and the phase that it names."""
    # Loading and saving are outside the step that is counted.
    profile = replace(trace(run.spec, []), load_bytes=0, save_bytes=0)
    found = project(profile, run.rung, sequence_length=run.spec.training.sequence_length, card=bare("cpu"))
    if run.spec.data.holdout:
        return found.phases[EVALUATION], EVALUATION
    return found.allocated_bytes, found.phase


def _child(out: Connection, run: Run) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        with tempfile.TemporaryDirectory() as folder:
            taken = measured(run, folder)
        out.send((taken, *projected(run)))
    except Exception as error:  # the edge of this process: the parent says what went wrong
        traceback.print_exc()
        out.send(f"{type(error).__name__}: {str(error)[:200]}")
    out.close()


def in_child(run: Run) -> tuple[int, int, str] | str:
    """Measured and projected bytes and the phase, or what went wrong."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_child, args=(theirs, run))
    child.start()
    theirs.close()
    try:
        found: tuple[int, int, str] | str = ours.recv()
    except EOFError:
        found = "the run ended without an answer"
    child.join()
    return found


def _kind(one: Run) -> str:
    return EVALUATION if one.spec.data.holdout else one.method


def run(count: int, *, seed: int, seconds: float, what: str = "") -> dict[str, Any]:
    """Train, print each run, and sum up. what: "scans", models whose layers scan their tokens; "trainers", those of
    preferences."""
    started = time.monotonic()
    done: list[tuple[Run, float]] = []
    failed: dict[str, str] = {}
    print(
        f"{'model':10} {'method':14} {'dtype':8} {'rung':20} {'length':>6} {'phase':12} {'measured MiB':>12} error"
    )
    drawn = {"": draws, "scans": scanning_draws, "trainers": preference_draws}[what](count, seed)
    for index, one in enumerate(drawn):
        if time.monotonic() - started > seconds:
            break
        found: tuple[int, int, str] | str
        why = lacking(one.spec, machine.stack(), "cpu")
        found = why.text if why else in_child(one)
        words = f"{one.model:10} {one.method:14} {one.spec.model.dtype:8} {one.rung.label:20}"
        if isinstance(found, str):
            failed[f"run {index}, {one.model}, {one.method}"] = found
            print(f"{words} {found}", flush=True)
            continue
        taken, projected, phase = found
        error = projected / taken - 1
        done.append((one, error))
        length = one.spec.training.sequence_length
        print(f"{words} {length:6} {phase:12} {taken / 2**20:12.1f} {error:+7.2%}", flush=True)
    groups = results.by_group((_kind(one), error) for one, error in done)
    groups["all"] = results.figures([error for _, error in done])
    print("\n".join(results.lines(groups)))
    return {
        "benchmark": "memory",
        "part": f"real steps on the CPU{WHAT[what]}",
        "seed": seed,
        "asked": count,
        "seconds": round(time.monotonic() - started),
        **groups["all"],
        "met": results.within(groups["all"], GOALS) and not failed,
        "by_method": {name: found for name, found in groups.items() if name != "all"},
        "failed": failed,
    }
