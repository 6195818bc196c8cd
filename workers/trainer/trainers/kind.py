"""Kind: one of TRL's trainers, as the one way to train (workers/trainer/train.py) sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobs.jobfile.spec import JobSpec
from jobs.memory.rung import Rung
from workers.trainer.guarded import Guarded


@dataclass(frozen=True)
class Kind:
    """config: the class of TRL's settings; trainer: its trainer, guarded; fields: those settings that only this trainer
    has, of a job on a rung; metrics: what of its own it says of a step, by TRL's names; reference: whether it takes a
    model of its own as the reference."""

    config: type[Any]
    trainer: type[Guarded]
    fields: Callable[[JobSpec, Rung], dict[str, Any]]
    metrics: tuple[str, ...] = ()
    reference: Callable[[JobSpec, Rung], bool] = lambda spec, rung: False


def whole_reference(spec: JobSpec, rung: Rung) -> bool:
    """Beside a full fine-tune, unless it has said all that is asked of it. With adapters it is the model without."""
    return spec.method.kind == "full" and not rung.precompute
