"""Two jobs on one card through the real controller and store, with a host played by the test."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from orchestrator.store import Store
from tests.api.scheduling.test_scheduling import FakeHost, card, end, job


def lines(first: int, last: int, at: float, each: float) -> list[dict[str, Any]]:
    """Progress from step to step, `each` seconds apart; the first at `at`."""
    return [
        {"ts": at + (step - first) * each, "step": step, "total_steps": 1000, "step_s": each}
        for step in range(first, last + 1)
    ]


def told(attempt_id: int, begun: float, progress: list[dict[str, Any]]) -> dict[str, Any]:
    started = {"ts": begun, "pid": attempt_id, "create_time": begun}
    return {"attempt_id": attempt_id, "number": 1, "started": started, "progress": progress}


def share(yard, **sections: Any) -> dict[str, Any]:  # type: ignore[no-untyped-def]
    made: dict[str, Any] = yard.submit(resources={"share": True}, **sections)
    return made


@pytest.fixture
def host(yard):  # type: ignore[no-untyped-def]
    """One card of 2 GiB with job 1 on it, which ran alone for 20 steps of 1 s."""
    made = FakeHost(yard, card(0, 2))
    share(yard)
    made.trace()
    made.report(attempts=[told(1, yard.now, lines(1, 21, yard.now, 1.0))])
    yard.now += 21
    made.report()
    share(yard)
    yard.tick()
    assert job(yard, 2)["state"] == "running"
    return made


def test_two_jobs_share_a_card_and_each_trainer_knows_its_share(yard, host):  # type: ignore[no-untyped-def]
    first, second = (handed["assignments"][0] for handed in yard.dispatch.started)
    assert first["gpus"] == second["gpus"] and first["shared"] and second["shared"]
    assert 0 < first["upper_bytes"] + second["upper_bytes"] <= 2 * 2**30
    (shown,) = yard.http.get(f"{PREFIX}/gpus").json()["gpus"]
    assert shown["jobs"] == [1, 2]


@pytest.mark.parametrize(("beside_s", "parted"), [(1.4, False), (1.6, True)])
def test_what_slows_down_beyond_the_rule_is_undone_and_not_done_again(yard, host, beside_s, parted):  # type: ignore[no-untyped-def]
    came = yard.now
    host.report(attempts=[told(2, came, lines(1, 20, came + 1, beside_s))])
    host.report(attempts=[told(1, came - 21, lines(22, 40, came + 2, beside_s))])
    yard.now += 35
    host.report()
    yard.tick()
    orders = host.report()["stops"]
    assert [(order["attempt_id"], order["reason"]) for order in orders] == (
        [(2, "preempted")] if parted else []
    )
    if not parted:
        return
    reason = job(yard, 2)["reason"]
    assert reason["code"] == "preempted" and reason["figures"]["apart_from"] == [1]
    assert reason["figures"]["slowdown"] == pytest.approx(1.6)
    host.report(attempts=end(2, 1, Outcome.PREEMPTED, last_checkpoint="/tmp/x"))
    yard.tick()
    waits = job(yard, 2)
    assert (waits["state"], waits["reason"]["code"]) == ("queued", "busy"), (
        "there is room, but not beside job 1"
    )
    assert job(yard, 1)["state"] == "running"
    share(yard)
    yard.tick()
    assert job(yard, 3)["state"] == "running", "another may share the card of job 1"
    host.report(attempts=end(1, 1, Outcome.SUCCEEDED))
    yard.tick()
    assert job(yard, 2)["state"] == "running", "job 1 is gone, and nothing keeps it from job 3"


def test_nobody_is_stopped_while_the_one_that_came_is_still_coming_up(yard, host):  # type: ignore[no-untyped-def]
    host.report(attempts=[told(1, yard.now - 21, lines(22, 40, yard.now, 3.0))])
    yard.now += 60
    host.report()
    yard.tick()
    assert host.report()["stops"] == []


def test_one_that_runs_out_of_its_share_is_put_on_a_card_of_its_own(yard, host):  # type: ignore[no-untyped-def]
    store: Store = yard.services.store
    upper = store.attempt(2).projection["upper_bytes"]
    host.report(attempts=end(2, 1, Outcome.OOM, device_bytes=upper - 1000, step_s=5.0))
    yard.tick()
    assert (job(yard, 2)["state"], job(yard, 1)["state"]) == ("queued", "running")
    (seen,) = store.observations()
    assert seen.card_bytes == upper, "it had its share, not the card"
    assert seen.pace is None, "beside others its pace says nothing"
    host.report(attempts=end(1, 1, Outcome.SUCCEEDED))
    yard.tick()
    assert job(yard, 2)["state"] == "running"
    assert not store.attempt(3).shared
    assert store.attempt(3).rung == store.attempt(2).rung, "the card is larger than its share was"


def test_samples_of_a_shared_card_are_of_no_one_attempt(yard, host):  # type: ignore[no-untyped-def]
    sample = {"uuid": "cpu-0", "memory_used_bytes": 5, "process_memory": {"1": 2, "2": 3}}
    yard.now += 1
    host.report(samples=[{**sample, "ts": yard.now - 5}, {**sample, "ts": yard.now}])
    alone, both = yard.services.store.samples(1, 0, yard.now + 1)
    assert (alone.attempt_id, both.attempt_id) == (1, None)
    assert both.process_memory == {"1": 2, "2": 3}
