"""What is advised can be done: every change is one that the job file's own rules accept."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import SpecError
from jobs.remedies import against_divergence, against_memory, changed
from jobs.spec import JobSpec, parse_spec
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
