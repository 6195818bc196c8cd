"""Rules between a job's trainer and the rest of its file. They read raw values, as cross_field_rules.py does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.errors import Fault
from jobs.jobfile.sections.base import Section
from jobs.jobfile.sections.dpo import DIVERGING, DpoSpec
from jobs.jobfile.sections.kto import KtoSpec
from jobs.jobfile.sections.reward import RewardSpec
from jobs.jobfile.trainers.facts import TRAINERS

Given = Mapping[str, Any]

OPTIONS: Mapping[str, type[Section]] = {"dpo": DpoSpec, "kto": KtoSpec, "reward": RewardSpec}


def with_rate(value: dict[str, Any]) -> dict[str, Any]:
    """A job file's mapping with the learning rate of its trainer, where it gives none and the trainer has one."""
    facts = TRAINERS.get(value["trainer"]) if isinstance(value.get("trainer"), str) else None
    training = value.get("training", {})
    if facts is None or facts.learning_rate is None or not isinstance(training, Mapping):
        return value
    if training.get("learning_rate") is not None:
        return value
    return {**value, "training": {**training, "learning_rate": facts.learning_rate}}


def trainer_faults(trainer: Any, sections: Mapping[str, Given]) -> list[Fault]:
    """What the trainer has no use for, or can't do."""
    if not isinstance(trainer, str) or trainer not in TRAINERS:
        return []
    found = [
        Fault(f"{name}.{key}", str(given), f"only applies to trainer: {name}", f"leave it out for {trainer}")
        for name, section in OPTIONS.items()
        if name != trainer
        for key, given in sections.get(name, {}).items()
        if key not in section.model_fields or given != section.model_fields[key].get_default()
    ]
    if trainer == "sft":
        return found
    if (given := sections.get("data", {}).get("format")) is not None:
        problem = f"only applies to trainer: sft; {trainer} has columns of its own"
        found.append(Fault("data.format", str(given), problem, "leave it out, and name them in data.columns"))
    if sections.get("training", {}).get("packing") is True:
        problem = f"only applies to trainer: sft; {trainer} compares whole rows"
        found.append(Fault("training.packing", "true", problem, "leave it out"))
    training = sections.get("training", {})
    for key, usual in (("loss", "nll"), ("neftune_alpha", None)):
        if training.get(key, usual) != usual:
            problem = "only applies to trainer: sft"
            found.append(Fault(f"training.{key}", str(training[key]), problem, "leave it out"))
    if sections.get("model", {}).get("engine") == "unsloth":
        fix = "leave model.engine out"
        found.append(Fault("model.engine", "unsloth", f"was not tried with trainer: {trainer}", fix))
    if trainer == "reward" and sections.get("method", {}).get("kind") == "qlora":
        problem = "was not measured with trainer: reward, whose head would be packed, too"
        found.append(Fault("method.kind", "qlora", problem, "use lora"))
    if trainer == "dpo":
        found += _dpo_faults(sections.get("dpo", {}))
    if trainer == "kto":
        found += _kto_faults(sections)
    return found


def _dpo_faults(dpo: Given) -> list[Fault]:
    """What TRL 1.16 refuses once the model is loaded (trl/trainer/dpo_trainer.py, DPOTrainer.__init__)."""
    given = dpo.get("loss_type", ["sigmoid"])
    losses, weights = [given] if isinstance(given, str) else given, dpo.get("loss_weights")
    if not isinstance(losses, list):
        return []
    found = []
    if isinstance(weights, list) and len(weights) != len(losses):
        fix = f"give {len(losses)}, one for each loss"
        found.append(Fault("dpo.loss_weights", str(weights), f"are {len(weights)} weights", fix))
    other = next((one for one in losses if one not in DIVERGING), None)
    divergence = dpo.get("f_divergence_type", "reverse_kl")
    if divergence != "reverse_kl" and other is not None:
        problem = f"can't be had with the loss {other}"
        found.append(Fault("dpo.f_divergence_type", str(divergence), problem, "use reverse_kl"))
    if "exo_pair" in losses and not dpo.get("label_smoothing"):
        problem = "is 0, which exo_pair can't take the logarithm of"
        found.append(Fault("dpo.label_smoothing", "0", problem, "use a value above 0, such as 0.001"))
    return found


def _kto_faults(sections: Mapping[str, Given]) -> list[Fault]:
    """The KL term needs another completion in the same micro-batch."""
    if sections.get("kto", {}).get("loss_type", "kto") != "kto":
        return []
    micro = sections.get("memory", {}).get("micro_batch", "auto")
    batch, gpus = (
        sections.get("training", {}).get("global_batch"),
        sections.get("resources", {}).get("gpus", 1),
    )
    problem = "has no other completion to make the KL term of"
    other = "or set kto.loss_type: apo_zero_unpaired"
    if micro == 1 and not isinstance(micro, bool):
        return [Fault("memory.micro_batch", "1", problem, f"use 2 or more, {other}")]
    if isinstance(batch, int) and isinstance(gpus, int) and gpus >= 1 and batch // gpus == 1:
        fix = f"use {2 * gpus} or more, {other}"
        return [Fault("training.global_batch", str(batch), f"leaves one row to a GPU, which {problem}", fix)]
    return []
