"""Overrides over a job file's mapping."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.errors import SpecError
from jobs.jobfile.overrides import apply_overrides


@pytest.mark.parametrize(
    ("value", "overrides", "made"),
    [
        ({}, {"training.steps": 3}, {"training": {"steps": 3}}),
        ({"training": {"steps": 9, "seed": 1}}, {"training.steps": 3}, {"training": {"steps": 3, "seed": 1}}),
        ({"training": None}, {"training.steps": 3}, {"training": {"steps": 3}}),
        ({"model": "a"}, {"model.dtype": "float32"}, {"model": {"path": "a", "dtype": "float32"}}),
        ({"model": "a"}, {"model": "b"}, {"model": "b"}),
        ({"method": "full"}, {"method.kind": "lora"}, {"method": {"kind": "lora"}}),
        ({}, {"memory.checkpointing.every_n": 2}, {"memory": {"checkpointing": {"every_n": 2}}}),
        ({}, {"name": "a", "model.path": "m"}, {"name": "a", "model": {"path": "m"}}),
    ],
    ids=str,
)
def test_laid_over(value: dict[str, Any], overrides: dict[str, Any], made: dict[str, Any]) -> None:
    assert apply_overrides(value, overrides) == made


def test_the_file_stays_as_it_is() -> None:
    value = {"training": {"steps": 9}, "method": {"targets": ["a"]}}
    apply_overrides(value, {"training.steps": 3})["method"]["targets"].append("b")
    assert value == {"training": {"steps": 9}, "method": {"targets": ["a"]}}


def test_paths_that_lead_nowhere_are_all_told() -> None:
    with pytest.raises(SpecError) as caught:
        apply_overrides({"name": "x"}, {"name.first": 1, "": 2, "training..steps": 3}, "job.yaml")
    assert [str(fault) for fault in caught.value.faults] == [
        "name.first: can't be set: name holds a value, not keys (given: 1); set name as a whole",
        "override: is not a dotted path; write one such as training.steps",
        "training..steps: is not a dotted path; write one such as training.steps",
    ]
    assert caught.value.source == "job.yaml"
