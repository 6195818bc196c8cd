"""Changes of a job file that would help, each of them one that its own rules accept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.errors import SpecError
from jobs.overrides import apply_overrides
from jobs.spec import JobSpec, parse_spec

SHORTEST = 128  # tokens; shorter sequences are no help to anybody


@dataclass(frozen=True)
class Change:
    """One change, as `--set` takes it, by dotted path; effect: what it does, in words."""

    overrides: Mapping[str, Any]
    effect: str = ""

    def __str__(self) -> str:
        keys = ", ".join(f"{path}: {value}" for path, value in self.overrides.items())
        return f"{keys} ({self.effect})" if self.effect else keys


def changed(spec: JobSpec, overrides: Mapping[str, Any]) -> JobSpec | None:
    """The job with these changes; None where its rules refuse them."""
    try:
        return parse_spec(apply_overrides(spec.model_dump(mode="json", exclude_unset=True), overrides))
    except SpecError:
        return None


def against_divergence(spec: JobSpec) -> list[Change]:
    """What keeps a loss finite, the likeliest first.

    Gradients are clipped to a norm of 1 in any case (transformers' max_grad_norm), so that is no change to make.
    """
    training = spec.training
    slower = float(f"{training.learning_rate / 10:.2g}")
    found = [Change({"training.learning_rate": slower}, f"it is {training.learning_rate:g}")]
    if training.warmup_ratio < 0.1:
        found.append(Change({"training.warmup_ratio": 0.1}, "the learning rate rises more slowly"))
    if spec.model.dtype == "float16":
        found.append(Change({"model.dtype": "bfloat16"}, "its range is that of float32"))
    elif spec.autocast_dtype is not None and spec.model.dtype == "float32":
        found.append(Change({"training.autocast": "off"}, "everything is computed in float32"))
    if training.on_nan == "fail":
        found.append(Change({"training.on_nan": "skip"}, "leaves out the steps in which it happens"))
    return _possible(spec, found)


def against_memory(spec: JobSpec) -> list[Change]:
    """What takes less memory. For people to decide: each changes what is trained, or how."""
    memory, method, training = spec.memory, spec.method.kind, spec.training
    found = []
    fixed = {
        f"memory.{name}": "auto"
        for name in ("checkpointing", "micro_batch")
        if getattr(memory, name) != "auto"
    }
    if fixed:
        found.append(Change(fixed))
    if method == "full":
        found.append(Change({"method.kind": "lora"}))
    if method != "qlora":
        found.append(Change({"method.kind": "qlora"}))
    if method == "full" and training.optimizer in ("adamw", "paged_adamw"):
        found.append(Change({"training.optimizer": "adamw_8bit"}))
    if training.sequence_length >= 2 * SHORTEST:
        found.append(Change({"training.sequence_length": training.sequence_length // 2}))
    return _possible(spec, found)


def _possible(spec: JobSpec, changes: list[Change]) -> list[Change]:
    return [one for one in changes if changed(spec, one.overrides) is not None]
