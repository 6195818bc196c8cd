"""Changes of a job file that would help, each of them one that its own rules accept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.errors import SpecError
from jobs.jobfile.overrides import apply_overrides
from jobs.jobfile.spec import JobSpec, parse_spec

# Weights of a trained transformer are spread about zero with about this deviation (its initializer_range as a rule).
TYPICAL_WEIGHT = 0.02
# Below this share of weights that an update can change, something is wrong.
ENOUGH_MOVE = 0.9
MOST_WARNED = 20
SHORTEST = 128  # tokens; shorter sequences are no help to anybody


@dataclass(frozen=True)
class Change:
    """One change, as `--set` takes it, by dotted path; effect: what it does, in words."""

    overrides: Mapping[str, Any]
    effect: str = ""

    @property
    def flags(self) -> str:
        """The same for a command line."""
        return " ".join(f"--set {path}={value}" for path, value in self.overrides.items())

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
    """What keeps a loss finite, the likeliest first."""
    training = spec.training
    slower = float(f"{training.learning_rate / 10:.2g}")
    found = [Change({"training.learning_rate": slower}, f"it is {training.learning_rate:g}")]
    if not 0 < training.max_grad_norm <= 1:
        found.append(Change({"training.max_grad_norm": 1.0}, "gradients are clipped to that norm"))
    if training.warmup_ratio < 0.1 and training.warmup_steps is None:
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


def warnings_of(specs: Iterable[JobSpec]) -> list[str]:
    """warnings() of jobs that were submitted together, each told once: of the first MOST_WARNED that differ in it."""
    kinds: dict[tuple[Any, ...], JobSpec] = {}
    for spec in specs:
        training = spec.training
        kind = (spec.method.kind, spec.model.dtype, training.learning_rate, training.optimizer)
        if len(kinds) < MOST_WARNED:
            kinds.setdefault(kind, spec)
    return list(dict.fromkeys(text for spec in kinds.values() for text in warnings(spec)))


def warnings_stored(value: Mapping[str, Any]) -> list[str]:
    """warnings() of a spec as it is stored; none where this version can't read it."""
    try:
        return warnings(parse_spec(value))
    except SpecError:
        return []


def warnings(spec: JobSpec) -> list[str]:
    """What a job file says that trains, and hardly does what its writer wants."""
    moving = share_that_moves(spec)
    if moving is None or moving >= ENOUGH_MOVE:
        return []
    masters = {"model.dtype": "float32", "training.autocast": "bfloat16"}
    instead = []
    if changed(spec, masters):
        instead.append("float32 weights with autocast (model.dtype: float32 and training.autocast: bfloat16)")
    if changed(spec, {"method.kind": "lora"}):
        instead.append("method.kind: lora")
    how_many = "hardly any weight" if moving < 0.01 else f"about {moving:.0%} of the weights"
    return [
        f"bfloat16 weights at learning rate {spec.training.learning_rate:g} lose most updates to rounding: a step "
        f"changes {how_many}" + (f"; use {', or '.join(instead)}" if instead else "")
    ]


def share_that_moves(spec: JobSpec) -> float | None:
    """Share of the weights that a step of a full fine-tune in bfloat16 can change; None for any other job.

    bfloat16 has 8 significant bits: from 2**k to 2**(k+1) its numbers are 2**(k-7) apart, and an update under half of
    that is rounded away: 2**-8 to 2**-9 of the weight, 2**-8.5 in the middle. Adam's update is about the learning rate
    (Kingma and Ba 2015, section 2.1), and of gradients that are clipped to a norm of 1 SGD's is far below it. So what
    moves are weights under 2**8.5 learning rates. At 2e-5 that is 28%; 27.9% were measured to move in 30 steps.
    """
    if spec.method.kind != "full" or spec.model.dtype != "bfloat16":
        return None
    if spec.training.optimizer == "sgd":
        return 0.0
    return math.erf(spec.training.learning_rate * 2**8.5 / (TYPICAL_WEIGHT * math.sqrt(2)))
