"""A trainer that stands still, and what attempts resumed from and have saved: as the API tells it."""

from __future__ import annotations

import pytest

from orchestrator.api.app import PREFIX
from tests.api.conftest import Yard
from tests.api.scheduling.test_scheduling import FakeHost, card, job

SAVED = [
    {"step": 40, "bytes": 9, "ts": 900.0, "whole": True},
    {"step": 20, "bytes": 9, "ts": 800.0, "whole": False},
]


def training(yard: Yard, step_s: float) -> FakeHost:
    host = FakeHost(yard, card(0, 2))
    yard.submit(training={"steps": 100})
    host.trace()
    line = {
        "ts": yard.now,
        "step": 45,
        "total_steps": 100,
        "tokens": 9,
        "tokens_per_s": 7.0,
        "step_s": step_s,
    }
    news = {
        "attempt_id": 1,
        "number": 1,
        "started": {"ts": yard.now, "pid": 1, "create_time": 1.0},
        "resumed": {"ts": yard.now, "step": 20},
        "checkpoints": SAVED,
        "progress": [line],
    }
    host.report(attempts=[news])
    return host


@pytest.mark.parametrize(
    ("step_s", "after_s", "stalled"),
    [(1.0, 29, False), (1.0, 60, True), (20.0, 150, False), (20.0, 252, True)],
)
def test_the_pace_of_before_is_not_told_as_that_of_now(step_s, after_s, stalled, yard):
    host = training(yard, step_s)
    yard.now += after_s
    host.report()
    (listed,) = yard.http.get(f"{PREFIX}/jobs").json()["jobs"]
    for shown in (listed["progress"], job(yard)["progress"]):
        assert (shown["stalled"], shown["age_s"], shown["step_s"]) == (stalled, after_s, step_s)
        assert (shown["eta_s"] is None) is (shown["tokens_per_s"] is None) is stalled


def test_it_is_told_what_it_resumed_from_and_has_saved(yard):
    training(yard, 1.0)
    (attempt,) = job(yard)["attempts_detail"]
    assert attempt["resumed"]["step"] == 20 and attempt["checkpoints"] == SAVED
