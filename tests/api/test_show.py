"""What `show` says of attempts is so: checkpoints that are there, the pace that was known, what was measured."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from orchestrator.api.checkpoints import REPLACED, UNNEEDED
from tests.api.conftest import Yard
from tests.api.scheduling.test_scheduling import FakeHost, card, end, job

ROOT = "/tmp/a/x/jobs/1/checkpoints"


def step(number: int) -> str:
    return f"{ROOT}/step-{number:08d}"


def listing(*steps: int) -> list[dict[str, Any]]:
    return [{"step": one, "bytes": 9, "ts": 5.0, "whole": True} for one in steps]


def begun(yard: Yard, **sections: Any) -> FakeHost:
    host = FakeHost(yard, card(0, 2), name="a", home="/tmp/a")
    yard.submit(training={"steps": 1000}, **sections)
    host.trace()
    return host


def ends(
    yard: Yard, host: FakeHost, attempt: int, outcome: Outcome, kept: list[int], **measured: Any
) -> None:
    """It reports its checkpoints, newest first, and ends."""
    steps = {"steps": kept[0] + 5, "last_checkpoint": step(kept[0])} if kept else {}
    (news,) = end(attempt, attempt, outcome, **{**steps, **measured})
    host.report(attempts=[{**news, "checkpoints": listing(*kept)}])
    yard.tick()


def attempts(yard: Yard) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = job(yard)["attempts_detail"]
    return found


@pytest.mark.parametrize(
    ("outcome", "keep_s", "after_s"),
    [
        (Outcome.SUCCEEDED, None, 0),
        (Outcome.SUCCEEDED, 3600.0, 3600),
        (Outcome.FAILED, None, 7 * 86_400),
        (Outcome.FAILED, 0.0, 0),
    ],
)
def test_no_checkpoint_is_named_that_its_host_has_been_told_to_remove(yard, outcome, keep_s, after_s):
    controller = yard.services.controller
    controller.settings = yard.services.settings = dataclasses.replace(
        controller.settings, keep_checkpoints_s=keep_s
    )
    host = begun(yard)
    ends(yard, host, 1, outcome, [40, 30])
    if after_s:
        yard.now += after_s - 1
        (found,) = attempts(yard)
        assert (found["last_checkpoint"], found["checkpoints_gone"]) == (step(40), None)
        assert found["checkpoints"] == listing(40, 30) and host.report(kept=[1])["drop"] == []
        yard.now += 1
    (found,) = attempts(yard)
    assert (found["checkpoints"], found["checkpoints_gone"]) == ([], UNNEEDED)
    assert host.report(kept=[1])["drop"] == [1], "as the host is told"


def test_what_goes_on_from_them_keeps_them_named(yard):
    host = begun(yard)
    ends(yard, host, 1, Outcome.FAILED, [40])
    yard.now += 6 * 86_400
    assert yard.http.post(f"{PREFIX}/jobs/1/requeue").status_code == 201
    yard.now += 2 * 86_400
    assert attempts(yard)[0]["checkpoints_gone"] is None
    assert attempts(yard)[0]["checkpoints"] == listing(40)


def test_of_two_attempts_on_one_host_the_last_one_tells_what_is_there(yard):
    host = begun(yard, retries=3)
    ends(yard, host, 1, Outcome.PREEMPTED, [20, 10])
    assert attempts(yard)[0]["checkpoints"] == listing(20, 10)
    ends(yard, host, 2, Outcome.PREEMPTED, [30, 20])
    first, second = attempts(yard)[:2]
    assert (first["last_checkpoint"], first["checkpoints"]) == (step(20), listing(20)), "step 10 made way"
    assert (second["last_checkpoint"], second["checkpoints"]) == (step(30), listing(30, 20))
    ends(yard, host, 3, Outcome.PREEMPTED, [50, 40])
    first, second, third = attempts(yard)[:3]
    assert [one["checkpoints_gone"] for one in (first, second, third)] == [REPLACED, REPLACED, None]
    assert first["checkpoints"] == [] and third["checkpoints"] == listing(50, 40)


def test_an_attempt_that_never_saved_has_lost_nothing(yard):
    host = begun(yard)
    ends(yard, host, 1, Outcome.SUCCEEDED, [])
    (found,) = attempts(yard)
    assert (found["last_checkpoint"], found["checkpoints_gone"]) == (None, None)


def test_what_measured_nothing_is_not_called_incomparable(yard):
    host = begun(yard)
    ends(yard, host, 1, Outcome.FAILED, [], steps=0, total_steps=1000)
    (found,) = attempts(yard)
    assert found["not_comparable"] is None
    assert {name: value for name, value in found["measured"].items() if value is not None} == {}


def test_show_and_plan_project_a_step_at_the_same_pace(yard):
    host = begun(yard)
    (first,) = attempts(yard)
    slow = 40 * first["projection"]["step_s"]
    ends(yard, host, 1, Outcome.SUCCEEDED, [], step_s=slow, device_bytes=1)
    assert attempts(yard)[0]["errors"]["step_s"] == pytest.approx(39), "what was known when it began"
    again = yard.job(training={"steps": 1000})
    (planned,) = yard.http.post(f"{PREFIX}/plan", json={"job": again}).json()["cards"]
    assert planned["speed"] == pytest.approx(40)
    assert planned["projection"]["step_s"] == planned["step_s"] == pytest.approx(slow)
    yard.submit(training={"steps": 1000})
    yard.tick()
    second = yard.http.get(f"{PREFIX}/jobs/2").json()["attempts_detail"][0]
    assert second["projection"]["step_s"] == pytest.approx(planned["step_s"])
    host.report(attempts=end(2, 1, Outcome.SUCCEEDED, step_s=1.1 * slow, device_bytes=1))
    yard.tick()
    second = yard.http.get(f"{PREFIX}/jobs/2").json()["attempts_detail"][0]
    assert second["errors"]["step_s"] == pytest.approx(0.1)
    (group,) = yard.http.get(f"{PREFIX}/accuracy").json()["groups"]
    assert group["speed"] == pytest.approx(42), "the pace is of what was projected without it"


def test_a_name_that_is_empty_is_refused(yard):
    for key in ("user", "name", "project", "group"):
        answer = yard.http.get(f"{PREFIX}/jobs", params={key: " "})
        assert answer.status_code == 422
        assert answer.json()["error"]["message"].startswith(f"{key}: ' ' is empty; write a name")
