"""What a job file says of the optimizer, its schedule and the rest, as all of TRL's configurations take it."""

from __future__ import annotations

from typing import Any

from transformers import TrainingArguments

from jobs.jobfile.fields import OPTIMIZERS
from jobs.jobfile.options.schedulers import SCHEDULES, longer_than
from jobs.jobfile.sections.training import TrainingSpec
from workers.input_errors import Refused


def of_every_trainer(training: TrainingSpec) -> dict[str, Any]:
    """Keyword arguments of transformers' TrainingArguments, of which TRL's configurations are."""
    return {
        "learning_rate": training.learning_rate,
        "warmup_steps": _warmup(training),
        "lr_scheduler_type": SCHEDULES[training.scheduler].name,
        "lr_scheduler_kwargs": dict(training.scheduler_kwargs) or None,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "adam_beta1": training.betas[0],
        "adam_beta2": training.betas[1],
        "adam_epsilon": training.epsilon,
        "neftune_noise_alpha": training.neftune_alpha,
        "optim": OPTIMIZERS[training.optimizer],
        "seed": training.seed,
        **training.extra,
    }


def check_steps(args: TrainingArguments, steps: int) -> None:
    """Raises Refused for a schedule that takes more steps than the run turned out to have."""
    if text := longer_than(args.lr_scheduler_kwargs or {}, args.get_warmup_steps(steps), steps):
        raise Refused(text)


def _warmup(training: TrainingSpec) -> float:
    """transformers reads a value below 1 as a share of the steps, and 1 as one step."""
    if training.warmup_steps is not None:
        return training.warmup_steps
    return min(training.warmup_ratio, 1 - 1e-9)
