"""Options whose values have rules of their own: schedules, `training.extra`, names of modules."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.errors import SpecError
from jobs.jobfile.contradictions import without_contradicted
from jobs.jobfile.spec import parse_spec

BASE: dict[str, Any] = {"model": "org/model", "data": "rows.jsonl"}


def faults(**sections: Any) -> list[str]:
    try:
        parse_spec({**BASE, **sections})
    except SpecError as error:
        return [str(fault) for fault in error.faults]
    return []


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"scheduler": "greedy"}, "training.scheduler: is no schedule here"),
        ({"scheduler_kwargs": {"power": 2}}, "is no option of linear"),
        ({"scheduler": "cosine_with_restarts", "scheduler_kwargs": {"num_cycles": 0.5}}, "whole number"),
        ({"scheduler": "cosine_with_min_lr"}, "needs one of min_lr, min_lr_rate"),
        (
            {"scheduler": "cosine_with_min_lr", "scheduler_kwargs": {"min_lr": 1e-9, "min_lr_rate": 0.1}},
            "has both of min_lr, min_lr_rate",
        ),
        (
            {"scheduler": "polynomial", "learning_rate": 1e-4, "scheduler_kwargs": {"lr_end": 1e-3}},
            "is not below training.learning_rate",
        ),
        ({"scheduler": "warmup_stable_decay"}, "needs one of num_decay_steps"),
        (
            {
                "scheduler": "warmup_stable_decay",
                "scheduler_kwargs": {"num_decay_steps": 9},
                "steps": 10,
                "warmup_steps": 5,
            },
            "use 5 at most",
        ),
        ({"steps": 10, "warmup_steps": 11}, "is more than training.steps 10"),
        ({"warmup_ratio": 0.1, "warmup_steps": 1}, "stands beside warmup_ratio"),
        ({"betas": [0.9]}, "training.betas"),
        ({"betas": [0.9, 1.0]}, "training.betas.1"),
        ({"max_grad_norm": -1}, "training.max_grad_norm"),
        ({"extra": {"max_steps": 3}}, "can't be set here (given: 3); use training.steps"),
        ({"extra": {"torch_compile": True}}, "leave it out: it changes which kernels run"),
        ({"extra": {"eval_dely": 3}}, "did you mean eval_delay?"),
        ({"extra": {"eval_on_start": "yes"}}, "is not true or false"),
        ({"extra": {"train_sampling_strategy": "sorted"}}, "random or sequential or group_by_length"),
    ],
)
def test_what_training_refuses(training: dict[str, Any], said: str) -> None:
    assert any(said in fault for fault in faults(training=training)), faults(training=training)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"init": "pissa_niter_4"}, "changes the base model's weights"),
        ({"init": "eva"}, "begins from gradients or activations of the data"),
        ({"init": "zero"}, "write default, gaussian or orthogonal"),
        ({"init": "orthogonal", "rank": 3}, "use 4"),
        ({"targets": ["layers.0.q_proj"]}, "names the modules of one layer"),
        ({"rank_pattern": {".*q_proj": 4}}, "is no name of a module"),
        ({"kind": "full", "modules_to_save": ["lm_head"]}, "only applies to lora and qlora"),
    ],
)
def test_what_method_refuses(method: dict[str, Any], said: str) -> None:
    assert any(said in fault for fault in faults(method=method)), faults(method=method)


def test_what_unsloth_is_not_told_is_refused() -> None:
    found = faults(model={"path": "org/model", "engine": "unsloth"}, method={"rank_pattern": {"q_proj": 4}})
    assert found and "is not passed on to Unsloth" in found[0]


def test_transformers_names_of_schedules() -> None:
    spec = parse_spec({**BASE, "training": {"scheduler": "constant_with_warmup"}})
    assert spec.training.scheduler == "constant"


def test_a_flag_for_one_warm_up_replaces_the_other() -> None:
    file = {**BASE, "training": {"warmup_ratio": 0.1}}
    made, said = without_contradicted(file, {"training.warmup_steps": 10})
    assert "warmup_ratio" not in made["training"] and len(said) == 1
