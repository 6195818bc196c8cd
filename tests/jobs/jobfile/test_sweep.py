"""A matrix makes jobs; what it makes wrong is told with its place."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import Fault, SpecError
from jobs.jobfile.sweep import MAX_MEMBERS, Member, label, only_one, read_members, worst

BASE: dict[str, Any] = {"model": "org/model", "data": "rows.jsonl"}
AXES = {
    "training.learning_rate": st.floats(1e-6, 1.0, exclude_min=True),
    "training.seed": st.integers(0, 1000),
    "method.rank": st.integers(1, 4096),
    "memory.checkpointing": st.sampled_from(["auto", "off", "every_layer"]),
    "resources.card": st.sampled_from(["NVIDIA L4", "NVIDIA A10G"]),
}


def members(**sections: Any) -> list[Member]:
    return read_members({**BASE, **sections})


def faults(**sections: Any) -> dict[str, Fault]:
    with pytest.raises(SpecError) as raised:
        members(**sections)
    found = {fault.path: fault for fault in raised.value.faults}
    assert len(found) == len(raised.value.faults), "each is told once"
    return found


def at(spec: Any, path: str) -> Any:
    section, name = path.split(".")
    return getattr(getattr(spec, section), name)


def test_a_file_without_a_matrix_is_one_job():
    (one,) = members(name="alone")
    assert (one.spec.name, one.values) == ("alone", {})
    assert only_one([one]) is one.spec
    assert len(members(matrix=None)) == 1


def test_members_have_their_values_names_and_folders():
    made = members(
        name="lr",
        output="team/lr",
        matrix={"training.learning_rate": [1e-4, 2e-4], "method": ["lora", "full"]},
    )
    assert [member.spec.name for member in made] == ["lr-1", "lr-2", "lr-3", "lr-4"]
    assert [member.spec.output for member in made] == [f"team/lr/{number}" for number in (1, 2, 3, 4)]
    assert [(m.spec.training.learning_rate, m.spec.method.kind) for m in made] == [
        (1e-4, "lora"),
        (1e-4, "full"),
        (2e-4, "lora"),
        (2e-4, "full"),
    ]
    assert label(made[1].values) == "training.learning_rate=0.0001, method=full"
    assert all(member.spec.matrix is None for member in made)


def test_keys_may_be_nested_as_set_makes_them():
    nested = members(matrix={"training": {"steps": [1, 2]}, "method.rank": [8]})
    assert [member.values for member in nested] == [
        {"training.steps": 1, "method.rank": 8},
        {"training.steps": 2, "method.rank": 8},
    ]


def test_names_and_folders_that_are_an_axis_are_taken_as_they_are():
    made = members(name="x", output="y", matrix={"name": ["a", "b"], "output": ["c", "d"]})
    assert [(m.spec.name, m.spec.output) for m in made] == [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")]


def test_a_long_name_keeps_its_number():
    made = members(name="n" * 100, matrix={"training.seed": list(range(12))})
    names = [member.spec.name for member in made]
    assert len(set(names)) == 12 and all(len(name) == 100 for name in names)
    assert names[11].endswith("n-12")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_combination_is_made_once(data):
    paths = data.draw(st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=3, unique=True))
    matrix = {
        path: data.draw(st.lists(AXES[path], min_size=1, max_size=4, unique_by=repr), label=path)
        for path in paths
    }
    made = members(name="grid", matrix=matrix)
    assert [tuple(m.values.values()) for m in made] == list(itertools.product(*matrix.values()))
    for member in made:
        assert {path: at(member.spec, path) for path in paths} == member.values
    assert len({member.spec.name for member in made}) == len(made) == math.prod(map(len, matrix.values()))


@pytest.mark.parametrize(
    ("matrix", "path", "words"),
    [
        ({}, "matrix", "no axis"),
        ([1], "matrix", "no axis"),
        ({"training.steps": 3}, "matrix.training.steps", "not a list"),
        ({"training.steps": []}, "matrix.training.steps", "no values"),
        ({"training.steps": [1, 2, 1]}, "matrix.training.steps", "stands twice"),
        ({"training.steps": [1], "training": {"steps": [2]}}, "matrix.training.steps", "stands twice"),
        ({"training..steps": [1]}, "matrix.training..steps", "dotted path"),
        ({"training": [{}], "training.steps": [1]}, "matrix.training.steps", "part of another axis"),
        ({"after": [1, 2]}, "matrix.after", "can't differ"),
        ({"sweep": {"early_stop": {"keep": [0.1, 0.2]}}}, "matrix.sweep.early_stop.keep", "can't differ"),
        ({"training.stepz": [1, 2]}, "matrix.training.stepz", "unknown key"),
        ({"training.steps": [1, -2, 0]}, "matrix.training.steps.1", "at least 1"),
        ({"method": ["lora", "lara"]}, "matrix.method.1.kind", "not one of the choices"),
        ({"training.global_batch": [4, 6, 7]}, "matrix.training.global_batch.1", "not divisible"),
        ({"name.first": ["a"]}, "name", "not text"),
    ],
)
def test_what_is_wrong_with_a_matrix_is_named(matrix: Any, path: str, words: str):
    found = faults(matrix=matrix, resources={"gpus": 4})
    assert words in found[path].problem, found


def test_every_fault_of_every_member_is_told_at_once():
    found = faults(
        modle="x",
        priority="high:20",
        matrix={"training.steps": [0, 5, -1], "method.rank": [0, 8], "trainer": ["ppo"]},
    )
    assert set(found) == {
        *("modle", "priority", "matrix.training.steps.0", "matrix.training.steps.2"),
        *("matrix.method.rank.0", "matrix.trainer.0"),
    }
    beside = faults(modle="x", training={"steps": -1}, data=7, matrix={"training.steps": 3})
    assert set(beside) == {"matrix.training.steps", "modle", "data"}, (
        "a fault that an axis may correct is not told"
    )


def test_a_group_has_its_bound():
    most = {"training.seed": list(range(MAX_MEMBERS // 4)), "method.rank": [1, 2, 4, 8]}
    assert len(members(matrix=most)) == MAX_MEMBERS
    most["training.seed"].append(MAX_MEMBERS)
    assert "makes too many (given: 1,004 jobs)" in str(faults(matrix=most)["matrix"])


def test_early_stop_needs_a_matrix_and_a_later_end():
    sweep = {"early_stop": {"after_steps": 20}}
    assert faults(sweep=sweep)["sweep.early_stop"].fix == "leave it out"
    found = members(sweep=sweep, training={"steps": 21}, matrix={"training.seed": [1, 2]})
    early = found[0].spec.sweep.early_stop
    assert early is not None and (early.after_steps, early.keep) == (20, 0.5)
    short = faults(sweep=sweep, training={"steps": 20}, matrix={"training.seed": [1, 2]})
    assert "training.steps, 20" in short["sweep.early_stop.after_steps"].fix
    each = faults(sweep=sweep, matrix={"training.steps": [10, 30]})
    assert set(each) == {"sweep.early_stop.after_steps"}
    wrong = faults(sweep={"early_stop": {"after_steps": 0, "keep": 1.5}}, matrix={"training.seed": [1]})
    assert set(wrong) == {"sweep.early_stop.after_steps", "sweep.early_stop.keep"}


def test_a_file_with_a_matrix_is_not_one_job():
    with pytest.raises(SpecError, match=r"matrix: makes a group.*given: 1 jobs.*--set matrix=null"):
        only_one(members(matrix={"training.seed": [1]}))


def test_a_check_sees_each_member_and_its_faults_are_placed():
    def check(spec: Any) -> list[Fault]:
        return [Fault("data.path", spec.data.path, "is not there")] if spec.data.path == "/b" else []

    value = {**BASE, "matrix": {"data": ["a", "b"], "training.seed": [1, 2]}}
    with pytest.raises(SpecError) as raised:
        read_members(value, prepare=lambda made: {**made, "data": f"/{made['data']}"}, check=check)
    assert [fault.path for fault in raised.value.faults] == ["matrix.data.1.path"]


@pytest.mark.parametrize(
    ("losses", "keep", "ended"),
    [
        ({}, 0.5, []),
        ({1: 2.0}, 0.1, []),  # one is always kept
        ({1: 2.0, 2: 1.0}, 0.5, [1]),
        ({1: 2.0, 2: 1.0, 3: 3.0}, 0.5, [3]),  # two of three: rounded up
        ({1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0}, 0.5, [3, 4]),
        ({1: math.nan, 2: math.inf, 3: 9.0}, 1 / 3, [1, 2]),
        ({number: float(number) for number in range(1, 11)}, 0.7, [8, 9, 10]),  # 0.7 * 10 is a little over 7
    ],
)
def test_the_worst_are_those_of_highest_loss(losses: dict[int, float], keep: float, ended: list[int]):
    found = worst(losses, keep)
    assert sorted(found) == ended
    ranks = [(math.isnan(losses[job_id]), losses[job_id]) for job_id in found]
    assert [rank for rank in ranks if not rank[0]] == sorted((r for r in ranks if not r[0]), reverse=True)
