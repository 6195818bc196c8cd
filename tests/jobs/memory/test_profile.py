"""jobs/memory/profile.py: profiles survive JSON; the key depends on what a profile depends on, and on nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.errors import ProfileError
from jobs.jobfile.spec import JobSpec
from jobs.memory.profile import Line, MemoryProfile, Segment, trace_key
from jobs.memory.project import Rung, project
from tests.step_profiles import card, profile

STACK = {"torch": "2.13.0", "trl": "1.16.0"}


def _spec(**sections: Any) -> JobSpec:
    config = {"model_type": "llama", "hidden_size": 64}
    return JobSpec.model_validate({"model": {"config": config, "tokenizer": "t"}, "data": "d", **sections})


def test_a_line_is_exact_in_tokens_and_pairs() -> None:
    assert Line(100, 3, 0.5).at(10, 40) == 100 + 30 + 20


def test_the_highest_peak_depends_on_the_shape() -> None:
    segment = Segment(Line(), (Line(1000), Line(0, 10)))
    assert segment.peak(10, 0) == 1000
    assert segment.peak(1000, 0) == 10_000


def test_a_profile_survives_json() -> None:
    made = profile(notes=("a note",), mask_from_length=4096)
    assert MemoryProfile.from_dict(json.loads(json.dumps(made.as_dict()))) == made


@pytest.mark.parametrize(
    "damage",
    [{"format": 0}, {"format": None}, {"passes": {"cuda.plain.off": {}}, "layers": None, "extra": 1}],
)
def test_a_profile_of_another_format_or_a_damaged_one_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(ProfileError):
        MemoryProfile.from_dict({**profile().as_dict(), **damage})


def test_equal_layers_need_no_order() -> None:
    assert profile(4).layer_names == ("first", "layer", "layer", "last")
    assert profile(2).layer_names == ("first", "last")
    assert profile(1).layer_names == ("last",)


def test_an_order_names_every_layer() -> None:
    order = ("first", "layer.b", "layer", "last")
    made = profile(4, order=order)
    assert made.layer_names == order
    assert MemoryProfile.from_dict(json.loads(json.dumps(made.as_dict()))) == made
    with pytest.raises(ProfileError, match="a profile of 5 layers names 4 of them"):
        profile(5, order=order)


def test_an_order_of_layers_that_were_not_traced_is_an_error_not_a_guess() -> None:
    made = profile(2, order=("first", "layer.b"))
    with pytest.raises(ProfileError, match=r"no segment 'layer\.b'"):
        project(made, Rung(0, 1), sequence_length=8, card=card())


def test_a_missing_pass_is_an_error_not_a_guess() -> None:
    bare = profile(passes={})
    with pytest.raises(ProfileError, match=r"cpu\.padded\.every"):
        bare.body("cpu", padded=True, every=True)


@pytest.mark.parametrize(
    "same",
    [
        {"training": {"sequence_length": 64}},
        {"training": {"global_batch": 2, "learning_rate": 1e-3, "seed": 7}},
        {"memory": {"micro_batch": 1}},
        {"memory": {"checkpointing": "off", "confidence": 0.9}},
        {"resources": {"gpus": 2}},
        {"name": "another", "data": "elsewhere"},
        {"method": {"kind": "lora", "alpha": 5}},
    ],
)
def test_batch_length_data_and_policy_are_not_in_the_key(same: dict[str, Any]) -> None:
    assert trace_key(_spec(**same), STACK, None) == trace_key(_spec(), STACK, None)


@pytest.mark.parametrize(
    "other",
    [
        {"method": "full"},
        {"method": {"kind": "lora", "rank": 8}},
        {"method": {"kind": "lora", "dropout": 0.1}},
        {"method": {"kind": "lora", "targets": ["q_proj"]}},
        {"method": "qlora"},
        {"method": {"kind": "lora", "dora": True}},
        {"method": {"kind": "lora", "adapter_dtype": "bfloat16"}},
        {"training": {"optimizer": "adamw_8bit"}},
        {"training": {"autocast": "off"}},
        {"training": {"packing": True}},
        {"model": {"config": {"model_type": "llama", "hidden_size": 128}, "tokenizer": "t"}},
        {
            "model": {
                "config": {"model_type": "llama", "hidden_size": 64},
                "tokenizer": "t",
                "dtype": "float32",
            }
        },
        {
            "model": {
                "config": {"model_type": "llama", "hidden_size": 64},
                "tokenizer": "t",
                "attention": "eager",
            }
        },
    ],
)
def test_what_the_trace_runs_is_in_the_key(other: dict[str, Any]) -> None:
    assert trace_key(_spec(**other), STACK, None) != trace_key(_spec(), STACK, None)


def test_the_stack_and_a_folders_config_are_in_the_key() -> None:
    spec = _spec(model="/models/mine")
    keys = {
        trace_key(spec, STACK, {"hidden_size": 64}),
        trace_key(spec, STACK, {"hidden_size": 128}),
        trace_key(spec, {**STACK, "torch": "2.14.0"}, {"hidden_size": 64}),
    }
    assert len(keys) == 3
