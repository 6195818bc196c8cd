"""Flags over a job file: what they contradict is replaced and named, and the job is then valid."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import SpecError
from jobs.jobfile.contradictions import without_contradicted
from jobs.jobfile.cross_field_rules import LORA_DEFAULTS
from jobs.jobfile.overrides import apply_overrides
from jobs.jobfile.sweep import read_members

CONFIG = {"model_type": "llama", "hidden_size": 64}
FILE: dict[str, Any] = {"model": "org/a", "data": "rows.jsonl"}


def read(value: dict[str, Any], overrides: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    kept, said = without_contradicted(value, overrides, "job.yaml")
    members = read_members(apply_overrides(kept, overrides))
    return [member.spec.model_dump(mode="json", exclude_unset=True) for member in members], said


@pytest.mark.parametrize(
    ("file", "overrides", "said"),
    [
        (
            {"training": {"steps": 200}},
            {"training.epochs": 2.0},
            ["training.epochs 2.0 replaces training.steps 200"],
        ),
        ({"training": {"epochs": 3}}, {"training.steps": 5}, ["training.steps 5 replaces training.epochs 3"]),
        (
            {"method": {"kind": "lora", "rank": 8, "targets": ["q_proj"], "dropout": 0.1, "alpha": 32}},
            {"method.kind": "full"},
            [
                "method.kind full replaces method.rank 8",
                "method.kind full replaces method.dropout 0.1",
                'method.kind full replaces method.targets ["q_proj"]',
            ],
        ),
        (
            {"model": {"config": CONFIG, "tokenizer": "org/t", "dtype": "float32"}},
            {"model.path": "org/b"},
            [
                'model.path org/b replaces model.config {"model_type": "llama", "hidden_size": 64}',
                "model.path org/b replaces model.tokenizer org/t",
            ],
        ),
        (
            {"model": {"path": "org/a", "revision": "abc"}},
            {"model.path": "org/b"},
            ["model.path org/b replaces model.revision abc"],
        ),
        ({"model": {"path": "org/a", "revision": "abc"}}, {"model.path": "org/a"}, []),
        ({"training": {"steps": 200}}, {"training.steps": 5}, []),
        ({"training": {"steps": 200}}, {"training.epochs": None}, []),
    ],
    ids=str,
)
def test_what_a_flag_contradicts_is_replaced_and_named(
    file: dict[str, Any], overrides: dict[str, Any], said: list[str]
) -> None:
    (spec,), found = read({**FILE, **file}, overrides)
    assert sorted(found) == sorted(f"job.yaml: {line}" for line in said)
    for path, value in overrides.items():
        section, _, key = path.partition(".")
        assert value is None or spec[section][key] == value


@pytest.mark.parametrize(
    "matrix",
    [{"training.learning_rate": [1e-4, 2e-4]}, {"training": {"learning_rate": [1e-4, 2e-4]}}],
    ids=str,
)
def test_a_flag_is_not_undone_by_a_matrix(matrix: dict[str, Any]) -> None:
    file = {
        **FILE,
        "matrix": {**matrix, "training.seed": [1, 2]},
        "sweep": {"early_stop": {"after_steps": 5}},
    }
    specs, said = read(file, {"training.learning_rate": 1e-5})
    assert [(spec["training"]["learning_rate"], spec["training"]["seed"]) for spec in specs] == [
        (1e-5, 1),
        (1e-5, 2),
    ]
    assert said == [
        "job.yaml: training.learning_rate 1e-05 replaces matrix.training.learning_rate [0.0001, 0.0002]"
    ]
    (spec,), said = read(file, {"training.learning_rate": 1e-5, "training.seed": 7})
    assert spec["training"] == {"learning_rate": 1e-5, "seed": 7}
    assert said[-1] == "job.yaml: sweep.early_stop is left out, for nothing is left of the matrix"


def test_what_excludes_an_axis_takes_its_place() -> None:
    specs, said = read({**FILE, "matrix": {"training.steps": [5, 10]}}, {"training.epochs": 1.0})
    assert (len(specs), specs[0]["training"]) == (1, {"epochs": 1.0})
    assert len(said) == 1
    specs, said = read({**FILE, "matrix": {"method.rank": [8, 16]}}, {"method.kind": "full"})
    assert (len(specs), specs[0]["method"]) == (1, {"kind": "full"})


@pytest.mark.parametrize(
    "overrides",
    [
        {"training.steps": 5, "training.epochs": 1.0},
        {"method.kind": "full", "method.rank": 8},
        {"model.path": "org/b", "model.config": CONFIG},
    ],
    ids=str,
)
def test_overrides_that_contradict_each_other_are_refused(overrides: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        read(FILE, overrides)


_FILES = st.fixed_dictionaries(
    {},
    optional={
        "method": st.fixed_dictionaries(
            {"kind": st.sampled_from(["lora", "qlora"])},
            optional={"rank": st.integers(1, 64), "dropout": st.floats(0, 0.5), "dora": st.booleans()},
        ),
        "training": st.sampled_from([{"steps": 7}, {"epochs": 2.0}, {"seed": 3}]),
        "matrix": st.dictionaries(
            st.sampled_from(["training.learning_rate", "training.seed", "method.rank"]),
            st.lists(st.integers(1, 9), min_size=1, max_size=2, unique=True),
            min_size=1,
        ),
    },
)


@settings(deadline=None, max_examples=100)
@given(
    _FILES,
    st.fixed_dictionaries(
        {},
        optional={
            "method.kind": st.sampled_from(["lora", "full"]),
            "training.seed": st.just(5),
            "training.learning_rate": st.just(0.5),
        },
    ),
    st.sampled_from([{}, {"training.steps": 3}, {"training.epochs": 1.0}]),
)
def test_every_flag_holds_in_every_job_that_comes_of_the_file(
    file: dict[str, Any], flags: dict[str, Any], length: dict[str, Any]
) -> None:
    specs, _ = read({**FILE, **file}, {**flags, **length})
    for spec in specs:
        for path, value in {**flags, **length}.items():
            section, _, key = path.partition(".")
            assert spec[section][key] == value
        if flags.get("method.kind") == "full":
            assert all(
                spec["method"].get(name, default) == default for name, default in LORA_DEFAULTS.items()
            )


def test_a_section_that_is_replaced_whole_is_named_key_by_key() -> None:
    file = {**FILE, "model": {"config": {"model_type": "llama"}, "tokenizer": "org/t", "dtype": "float32"}}
    _, found = read(file, {"model": "org/b"})
    gone = ("model.config.model_type llama", "model.tokenizer org/t", "model.dtype float32")
    assert found == [f"job.yaml: model org/b replaces {one}" for one in gone]
    _, found = read({**FILE, "training": {"steps": 200, "seed": 3}}, {"training": {"steps": 5}})
    assert found == ['job.yaml: training {"steps": 5} replaces training.seed 3']
    assert read(FILE, {"model": "org/b"})[1] == []
