"""What of a job file decides its weights: whether a job may go on from the checkpoint of one with another job file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from jobs.spec import DataSpec, JobSpec, ModelSpec, Section


class Effect(StrEnum):
    """What a change of a key means for a job that goes on from a checkpoint."""

    WEIGHTS = "weights"  # other weights: it can't go on
    SCHEDULE = "schedule"  # it goes on, and its next steps are other ones than those that were planned
    NONE = "none"  # the same steps, only at another time, place or pace


_W, _S, _N = Effect.WEIGHTS, Effect.SCHEDULE, Effect.NONE

# Every key of a job file, each with its effect; a test finds one that is missing, which counts as WEIGHTS until then.
EFFECTS: Mapping[str, Effect] = {
    "name": _N,
    "model.path": _W,
    "model.config": _W,
    "model.tokenizer": _W,
    "model.revision": _W,
    "model.dtype": _W,
    "model.attention": _N,  # the same numbers up to rounding
    "model.engine": _W,
    "model.trust_remote_code": _N,
    "data.path": _W,
    "data.split": _W,
    "data.holdout": _W,
    "data.loss_on": _W,
    "trainer": _W,
    "method.kind": _W,
    "method.rank": _W,
    "method.alpha": _W,
    "method.dropout": _W,
    "method.targets": _W,
    "method.dora": _W,
    "method.rslora": _W,
    "method.adapter_dtype": _W,
    "training.learning_rate": _S,
    "training.epochs": _S,
    "training.steps": _S,
    "training.sequence_length": _W,
    "training.global_batch": _W,
    "training.packing": _W,
    "training.warmup_ratio": _S,
    "training.scheduler": _S,
    "training.optimizer": _W,
    "training.autocast": _W,
    "training.weight_decay": _W,
    "training.seed": _W,
    "training.eval_steps": _N,
    "training.checkpoint_steps": _N,
    "training.on_nan": _S,
    "memory.checkpointing": _N,
    "memory.offload": _N,
    "memory.micro_batch": _N,
    "memory.confidence": _N,
    "resources.gpus": _N,
    "resources.across_hosts": _N,
    "resources.card": _N,
    "resources.min_memory": _N,
    "resources.labels": _N,
    "resources.policy": _N,
    "resources.share": _N,
    "project": _N,
    "priority": _N,
    "after": _N,
    "matrix": _N,
    "sweep.early_stop": _N,
    "retries": _N,
    "time_limit": _N,
    "output": _N,
}


@dataclass(frozen=True)
class Change:
    """A key that two job files have other values for."""

    path: str
    old: Any
    new: Any

    @property
    def effect(self) -> Effect:
        return EFFECTS.get(self.path, Effect.WEIGHTS)

    def __str__(self) -> str:
        return f"{self.path} {_shown(self.old)} -> {_shown(self.new)}"


def changes(old: JobSpec, new: JobSpec) -> list[Change]:
    """What is new in a job file, in the order of its keys."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    return [Change(path, before[path], after[path]) for path in before if before[path] != after[path]]


def weights_digest(spec: JobSpec) -> str:
    """Equal for job files that differ in nothing that decides the weights.

    What stands at its default does not count, so that it stays what it is when a new version has more keys.
    """
    defaults = _defaults()
    decisive = {
        path: value
        for path, value in _leaves(spec)
        if EFFECTS.get(path, Effect.WEIGHTS) is Effect.WEIGHTS and value != defaults[path]
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


@cache
def _defaults() -> Mapping[str, Any]:
    """What keys stand at where a job file leaves them out."""
    return dict(_leaves(JobSpec.model_construct(model=ModelSpec(), data=DataSpec(path=" "))))


def _leaves(section: Section, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each key with its value as JSON has it. A mapping or a list is one value."""
    written = section.model_dump(mode="json")
    for name in type(section).model_fields:
        path, value = f"{prefix}{name}", getattr(section, name)
        if isinstance(value, Section) and path not in EFFECTS:
            yield from _leaves(value, f"{path}.")
        else:
            yield path, written[name]


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
