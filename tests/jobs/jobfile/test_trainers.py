"""Trainers in a job file: their sections, learning rates, and what does not go together."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.errors import SpecError
from jobs.jobfile.spec import parse_spec
from tests.builders import a_spec


def faults(**values: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as error:
        parse_spec(a_spec(**values))
    return {fault.path: f"{fault.problem}; {fault.fix}" for fault in error.value.faults}


@pytest.mark.parametrize(("trainer", "rate"), [("sft", 2e-4), ("dpo", 1e-6), ("kto", 1e-6), ("reward", 1e-4)])
def test_the_learning_rate_is_the_trainers_own(trainer: str, rate: float) -> None:
    assert parse_spec(a_spec(trainer=trainer)).training.learning_rate == rate
    assert parse_spec(a_spec(trainer=trainer, training=None)).training.learning_rate == rate
    given = a_spec(trainer=trainer, training={"learning_rate": 5e-6})
    assert parse_spec(given).training.learning_rate == 5e-6


@pytest.mark.parametrize("trainer", ["grpo", "rloo", "distillation"])
def test_what_is_not_there_yet_is_said_to_be(trainer: str) -> None:
    assert faults(trainer=trainer)["trainer"] == "is not there yet; use sft, dpo, kto, reward"


@pytest.mark.parametrize(
    ("values", "path", "told"),
    [
        ({"dpo": {"beta": 0.2}}, "dpo.beta", "only applies to trainer: dpo; leave it out for sft"),
        ({"trainer": "dpo", "kto": {"beta": 0.2}}, "kto.beta", "leave it out for dpo"),
        ({"trainer": "dpo", "dpo": {"betta": 0.2}}, "dpo.betta", "did you mean beta"),
        ({"trainer": "dpo", "training": {"packing": True}}, "training.packing", "compares whole rows"),
        ({"trainer": "reward", "method": "qlora"}, "method.kind", "use lora"),
        ({"trainer": "kto", "model": {"path": "a/b", "engine": "unsloth"}}, "model.engine", "not tried"),
        ({"trainer": "kto", "memory": {"micro_batch": 1}}, "memory.micro_batch", "use 2 or more"),
        ({"trainer": "kto", "training": {"global_batch": 1}}, "training.global_batch", "use 2 or more"),
        (
            {"trainer": "dpo", "dpo": {"loss_type": ["ipo", "sft"], "loss_weights": [1]}},
            "dpo.loss_weights",
            "give 2, one for each loss",
        ),
        (
            {"trainer": "dpo", "dpo": {"loss_type": "aot", "f_divergence_type": "forward_kl"}},
            "dpo.f_divergence_type",
            "can't be had with the loss aot",
        ),
        ({"trainer": "dpo", "dpo": {"loss_type": "exo_pair"}}, "dpo.label_smoothing", "above 0"),
        ({"trainer": "dpo", "dpo": {"loss_type": "best"}}, "dpo.loss_type.0", "is not one of the choices"),
    ],
    ids=str,
)
def test_what_does_not_go_together(values: dict[str, Any], path: str, told: str) -> None:
    assert told in faults(**values)[path]


def test_a_section_at_its_defaults_is_no_fault() -> None:
    """A spec that is written out whole is read again."""
    spec = parse_spec(a_spec(trainer="dpo", dpo={"loss_type": "ipo"}))
    assert spec.dpo.loss_type == ["ipo"]
    assert parse_spec(spec.model_dump(mode="json")) == spec
