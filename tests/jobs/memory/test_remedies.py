"""What is advised can be done: every change is one that the job file's own rules accept."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import SpecError
from jobs.jobfile.spec import JobSpec, parse_spec
from jobs.memory.remedies import (
    against_divergence,
    against_memory,
    changed,
    share_that_moves,
    warnings,
    warnings_of,
)
from orchestrator.cli.commands.jobs.control import read_settings
from tests.fleets import spec

SECTIONS = {
    "model": st.fixed_dictionaries(
        {
            "path": st.just("org/model"),
            "dtype": st.sampled_from(["bfloat16", "float16", "float32"]),
            "engine": st.sampled_from(["transformers", "unsloth"]),
        }
    ),
    "method": st.fixed_dictionaries(
        {"kind": st.sampled_from(["full", "lora", "qlora"])},
        optional={
            "adapter_dtype": st.sampled_from(["auto", "float32", "bfloat16"]),
            "dora": st.booleans(),
            "rank": st.integers(1, 64),
        },
    ),
    "training": st.fixed_dictionaries(
        {},
        optional={
            "learning_rate": st.floats(1e-9, 10),
            "warmup_ratio": st.floats(0, 1),
            "autocast": st.sampled_from(["auto", "bfloat16", "off"]),
            "optimizer": st.sampled_from(["adamw", "sgd", "adamw_8bit", "paged_adamw"]),
            "on_nan": st.sampled_from(["fail", "skip"]),
            "sequence_length": st.integers(8, 4096),
            "scheduler": st.sampled_from(["linear", "constant"]),
        },
    ),
    "memory": st.fixed_dictionaries(
        {},
        optional={
            "checkpointing": st.sampled_from(["auto", "off", "every_layer", {"every_n": 2}]),
            "micro_batch": st.sampled_from(["auto", 1, 2, 8]),
            "offload": st.sampled_from(["auto", True, False]),
        },
    ),
}


def allowed(value: dict[str, Any]) -> JobSpec | None:
    try:
        return parse_spec({"data": "rows.jsonl", **value})
    except SpecError:
        return None


@given(st.fixed_dictionaries(SECTIONS).map(allowed).filter(bool))
def test_every_change_is_accepted_and_changes_something(asked: JobSpec) -> None:
    for change in (*against_divergence(asked), *against_memory(asked)):
        made = changed(asked, change.overrides)
        assert made is not None and made != asked, change
        assert all(f"{path}: {value}" in str(change) for path, value in change.overrides.items())
        given = [one.strip() for one in change.flags.split("--set ") if one]
        assert changed(asked, read_settings(given)) == made, "as a shell would pass it on"


def test_what_helps_goes_by_what_the_job_says() -> None:
    half = spec(model={"path": "a/b", "dtype": "float16"}, training={"on_nan": "skip", "warmup_ratio": 0.2})
    assert [change.overrides for change in against_divergence(half)] == [
        {"training.learning_rate": 2e-05},
        {"model.dtype": "bfloat16"},
    ]
    mixed = spec(model={"path": "a/b", "dtype": "float32"}, training={"autocast": "bfloat16"})
    keys = [key for change in against_divergence(mixed) for key in change.overrides]
    assert keys == [
        "training.learning_rate",
        "training.warmup_ratio",
        "training.autocast",
        "training.on_nan",
    ]


def full(rate: float, dtype: str = "bfloat16", **more: Any) -> JobSpec:
    training = {"learning_rate": rate, **more.pop("training", {})}
    return spec(model={"path": "a/b", "dtype": dtype}, method=more.pop("method", "full"), training=training)


@pytest.mark.parametrize(("rate", "measured"), [(2e-5, 0.279)])
def test_the_share_that_moves_is_what_was_measured(rate: float, measured: float) -> None:
    assert share_that_moves(full(rate)) == pytest.approx(measured, abs=0.01)


@pytest.mark.parametrize("rate", [1e-7, 2e-5, 5e-5])
def test_small_updates_of_bfloat16_weights_are_warned_of_with_what_to_do(rate: float) -> None:
    (text,) = warnings(full(rate))
    assert f"at learning rate {rate:g} lose most updates" in text
    assert text.endswith(
        "; use float32 weights with autocast (model.dtype: float32 and training.autocast: bfloat16), "
        "or method.kind: lora"
    )
    assert not warnings(full(rate, "float32", training={"autocast": "bfloat16"}))
    assert not warnings(full(rate, method="lora")) and not warnings(full(rate, method="qlora"))


def test_what_is_large_enough_is_not_warned_of_and_sgd_always_is() -> None:
    assert not warnings(full(2e-4))
    assert "hardly any weight" in warnings(full(2e-4, training={"optimizer": "sgd"}))[0]


def test_jobs_that_are_alike_are_warned_of_once() -> None:
    assert len(warnings_of([full(2e-5)] * 1000 + [full(1e-5), full(1.0)])) == 2


@given(st.fixed_dictionaries(SECTIONS).map(allowed).filter(bool))
def test_what_a_warning_says_to_use_can_be_used(asked: JobSpec) -> None:
    for text in warnings(asked):
        for change in text.partition("; use ")[2].split(", or "):
            made = changed(asked, dict(re.findall(r"([a-z_]+\.[a-z_]+): (\w+)", change)))
            assert made is not None and not warnings(made)
