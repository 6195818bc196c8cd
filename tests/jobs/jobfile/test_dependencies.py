"""`after`, `project`, `priority` and `share` of a job file."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.errors import SpecError
from jobs.jobfile.dependencies import MAX_LINKS
from jobs.jobfile.fields import PRIORITIES, PRIORITY_CLASSES
from jobs.jobfile.spec import JobSpec, parse_spec


def job(**sections: Any) -> JobSpec:
    return parse_spec({"model": "org/model", "data": "rows.jsonl", **sections})


def faults(**sections: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as raised:
        job(**sections)
    return {fault.path: str(fault) for fault in raised.value.faults}


@pytest.mark.parametrize(
    ("written", "links"),
    [
        (None, []),
        ([], []),
        (12, [(12, "success")]),
        ("prepare", [("prepare", "success")]),
        ({"job": 12, "on": "any"}, [(12, "any")]),
        (
            [3, {"job": "tidy"}, {"job": 4, "on": "failure"}],
            [(3, "success"), ("tidy", "success"), (4, "failure")],
        ),
    ],
)
def test_ways_to_write_after(written: Any, links: list[tuple[Any, str]]):
    read = job(after=written)
    assert [(link.job, str(link.on)) for link in read.after] == links
    assert parse_spec(read.model_dump(mode="json", exclude_unset=True)) == read


@pytest.mark.parametrize(
    ("written", "path", "words"),
    [
        (0, "after", "names no job (given: 0)"),
        (True, "after", "names no job"),
        (1.5, "after", "names no job"),
        ("a b", "after", "the id of a job, or the name"),
        ([1, 2**31], "after.1", "names no job"),
        ([[1]], "after.0", "names no job"),
        ({"on": "any"}, "after.job", "is required"),
        ({"job": 1, "on": "never"}, "after.on", "use success, failure, any"),
        ({"job": 1, "on": []}, "after.on", "not one of the choices"),
        ({"job": 1, "onn": "any"}, "after.onn", "known here: job, on"),
        ([1, 2, 1], "after.2", "stands twice"),
        (list(range(1, MAX_LINKS + 2)), "after", "is too many (given: 1001 jobs)"),
    ],
)
def test_what_is_wrong_with_after_is_named(written: Any, path: str, words: str):
    assert words in faults(after=written)[path]


def test_every_fault_of_after_is_told_beside_the_others():
    found = faults(after=[0, {"job": 1, "on": "x"}], priority=-1, training={"steps": 0})
    assert set(found) == {"after.0", "after.1.on", "priority", "training.steps"}


def test_priorities_and_their_classes():
    assert [job(priority=name).priority for name in PRIORITIES] == [25, 50, 75]
    assert job(priority="high:63").priority == 63 and job(priority="low:0").priority == 0
    bounds = [bound for limits in PRIORITY_CLASSES.values() for bound in range(limits[0], limits[1] + 1)]
    assert bounds == list(range(101))


@pytest.mark.parametrize("given", ["high:20", "low:38", "normal:63", "high:101"])
def test_a_priority_outside_its_class_is_named(given: str):
    name = given.partition(":")[0]
    first, last = PRIORITY_CLASSES[name]
    said = f"priority: is outside its class (given: {given}); {name} goes from {first} to {last}"
    assert faults(priority=given)["priority"] == said


@pytest.mark.parametrize("given", ["urgent", "high:", "high:x", 101, 2.5, None, "HIGH"])
def test_what_is_no_priority_is_refused(given: Any):
    assert "is no priority" in faults(priority=given)["priority"]


def test_project_and_share():
    assert (job().project, job().resources.share) == ("default", False)
    assert job(project="vision.v2", resources={"share": True}).resources.share is True
    found = faults(project="a b", resources={"share": "yes"})
    assert "is no name" in found["project"] and "is not true or false" in found["resources.share"]
    assert "for default" in faults(project="")["project"]
