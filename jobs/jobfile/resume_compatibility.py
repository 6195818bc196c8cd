"""What of a job file decides its weights: whether a job may go on from the checkpoint of one with another job file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from jobs.jobfile.changes import Difference, compared
from jobs.jobfile.sections.base import Section
from jobs.jobfile.sections.data import DataSpec
from jobs.jobfile.sections.model import ModelSpec
from jobs.jobfile.spec import JobSpec


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
    "model.chat_template": _W,
    "model.eos_token": _W,
    "model.revision": _W,
    "model.dtype": _W,
    "model.attention": _N,  # the same numbers up to rounding
    "model.engine": _W,
    "model.trust_remote_code": _N,
    "data.path": _W,
    "data.format": _W,
    "data.columns": _W,
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
    "method.exclude": _W,
    "method.modules_to_save": _W,
    "method.ensure_weight_tying": _W,
    "method.rank_pattern": _W,
    "method.alpha_pattern": _W,
    "method.init": _W,
    "training.learning_rate": _S,
    "training.epochs": _S,
    "training.steps": _S,
    "training.sequence_length": _W,
    "training.global_batch": _W,
    "training.packing": _W,
    "training.warmup_ratio": _S,
    "training.warmup_steps": _S,
    "training.scheduler": _S,
    "training.scheduler_kwargs": _S,
    "training.optimizer": _W,
    "training.autocast": _W,
    "training.weight_decay": _W,
    "training.max_grad_norm": _W,
    "training.betas": _W,
    "training.epsilon": _W,
    "training.loss": _W,
    "training.neftune_alpha": _W,
    "training.extra": _W,
    "training.seed": _W,
    "training.eval_steps": _N,
    "training.checkpoint_steps": _N,
    "training.keep_checkpoints": _N,
    "training.keep_best": _N,
    "training.early_stopping": _S,
    "training.on_nan": _S,
    "dpo.beta": _W,
    "dpo.loss_type": _W,
    "dpo.loss_weights": _W,
    "dpo.label_smoothing": _W,
    "dpo.f_divergence_type": _W,
    "dpo.f_alpha_divergence_coef": _W,
    "dpo.discopop_tau": _W,
    "dpo.ld_alpha": _W,
    "dpo.precompute_ref_log_probs": _N,  # the same numbers up to rounding
    "kto.beta": _W,
    "kto.loss_type": _W,
    "kto.desirable_weight": _W,
    "kto.undesirable_weight": _W,
    "kto.precompute_ref_log_probs": _N,
    "reward.center_rewards_coefficient": _W,
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
    "then": _N,
    "step": _N,  # whose result that is says its own digest
    "matrix": _N,
    "sweep.early_stop": _N,
    "retries": _N,
    "time_limit": _N,
    "report_to": _N,
    "secrets": _N,
    "output": _N,
}


# Why a job can't go on with another value: the first of these prefixes that its key begins with.
_WHY: Mapping[str, str] = {
    **dict.fromkeys(
        ("model.tokenizer", "model.chat_template", "model.eos_token"),
        "the steps that are done read other tokens",
    ),
    "model.": "the checkpoint holds the weights of another model",
    "method.kind": "the checkpoint holds weights of another method",
    "method.dropout": "the steps that are done were computed in another way",
    "method.": "the checkpoint holds another adapter",
    "data.": "the steps that are done were trained on other data",
    "trainer": "the steps that are done were trained by another trainer",
    "dpo.": "the steps that are done were trained with another loss",
    "kto.": "the steps that are done were trained with another loss",
    "reward.": "the steps that are done were trained with another loss",
    "training.optimizer": "the checkpoint holds the state of another optimizer",
    "training.autocast": "the steps that are done were computed in another way",
    **dict.fromkeys(
        (
            "training.weight_decay",
            "training.max_grad_norm",
            "training.betas",
            "training.epsilon",
            "training.loss",
            "training.neftune_alpha",
            "training.extra",
        ),
        "the steps that are done were computed in another way",
    ),
    "training.": "the steps that are done were made of other batches",
}


@dataclass(frozen=True)
class Change:
    """A value that two job files differ in. key: of EFFECTS; the path may lead into the mapping that stands there."""

    key: str
    difference: Difference

    @property
    def path(self) -> str:
        return self.difference.path

    @property
    def effect(self) -> Effect:
        return EFFECTS.get(self.key, Effect.WEIGHTS)

    @property
    def why_not(self) -> str:
        """What forbids a job to go on with it, where its effect is WEIGHTS."""
        return next((text for prefix, text in _WHY.items() if self.key.startswith(prefix)), _WHY["model."])

    def __str__(self) -> str:
        return str(self.difference)


def effect_of(path: str) -> Effect:
    """What a change at a dotted path means: of a section, or of a key inside of a mapping, too."""
    names = path.split(".")
    around = [known for end in range(len(names)) if (known := ".".join(names[: end + 1])) in EFFECTS]
    keys = around or [key for key in EFFECTS if key.startswith(f"{path}.")]
    effects = {EFFECTS[key] for key in keys} or {Effect.WEIGHTS}
    return next(effect for effect in Effect if effect in effects)


def changes(old: JobSpec, new: JobSpec) -> list[Change]:
    """What is new in a job file, in the order of its keys; of a mapping, key by key."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    return [
        Change(key, difference) for key in before for difference in compared(key, before[key], after[key])
    ]


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
