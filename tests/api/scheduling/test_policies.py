"""Policies, start estimates and advice through the real controller, store and API, with hosts played by the test."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from orchestrator.config import load
from orchestrator.scheduler.policy import DISCIPLINES, Rules
from orchestrator.whatif.start_times import COMERS
from tests.api.scheduling.test_preemption import later, starts, states, stops
from tests.api.scheduling.test_scheduling import FakeHost, card, end, job, of
from tests.profiles import small_profile

HOUR_S = 3600.0


def submit(yard, user: str, **sections: Any) -> int:
    """The id of a job of this user."""
    answer = yard.http.post(f"{PREFIX}/jobs", json={"jobs": [yard.job(**sections)], "user": user})
    assert answer.status_code == 201, answer.text
    made: int = answer.json()["jobs"][0]["id"]
    return made


def start_of(yard, number: int) -> dict[str, float | None] | None:
    """When it is likely to start, the same from every route that says so."""
    listed = {one["id"]: one["start"] for one in yard.http.get(f"{PREFIX}/jobs").json()["jobs"]}
    why = yard.http.get(f"{PREFIX}/jobs/{number}/why").json()["job"]["start"]
    shown = job(yard, number)["start"]
    assert listed[number] == why == shown
    return listed[number]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("fair", "of-bob"), ("fifo", "long"), ("shortest", "short"), ("attained", "long")],
)
def test_who_is_next_when_a_card_comes_free(yard, policy, expected):
    yard.set_rules(Rules(policy=policy))
    host = FakeHost(yard, card(0, 2))
    submit(yard, "ada", name="first", training={"steps": 100})
    host.trace()
    later(yard, host, by=100)
    submit(yard, "ada", name="long", training={"steps": 90_000})
    later(yard, host, by=1)
    submit(
        yard,
        "bob",
        name="of-bob",
        training={"steps": 50_000},
    )
    later(yard, host, by=1)
    submit(yard, "ada", name="short", training={"steps": 10})
    later(yard, host, by=1)
    host.report(attempts=end(1, 1, Outcome.SUCCEEDED))
    yard.tick()
    (running,) = yard.http.get(f"{PREFIX}/jobs?state=running").json()["jobs"]
    assert running["name"] == expected


@pytest.mark.parametrize("policy", DISCIPLINES)
@pytest.mark.parametrize("preempt", [True, False])
def test_only_policies_that_go_by_time_stop_a_peer_and_only_after_patience(yard, policy, preempt):
    """Job 1 has run for more than an hour and has a day to go; job 2 takes a minute."""
    yard.set_rules(Rules(policy=policy, preempt=preempt))
    host = FakeHost(yard, card(0, 2))
    yard.submit(name="day", training={"steps": 90_000})
    host.trace()
    starts(yard, host, 1, step=5, total=90_000)
    later(yard, host, by=1.1 * HOUR_S)
    starts(yard, host, 1, step=3_900, total=90_000)
    yard.submit(name="minute", training={"steps": 60})
    host.trace()
    later(yard, host, by=Rules().patience_s - 10)
    assert stops(host) == []
    later(yard, host, by=11)
    stopped = [(1, "preempted", 120.0)] if preempt and policy in ("shortest", "attained") else []
    assert stops(host) == stopped


def test_a_waiting_job_is_told_when_it_is_likely_to_start(yard):
    host = FakeHost(yard, card(0, 2))
    yard.submit(name="runs", training={"steps": 1000})
    host.trace()
    starts(yard, host, 1, step=100, total=1000, step_s=2.0)
    for name in ("next", "last"):
        yard.submit(name=name, training={"steps": 1000})
    later(yard, host, by=11)
    assert start_of(yard, 1) is None, "it runs"
    due = yard.now - 11 + 900 * 2.0
    first, second = start_of(yard, 2), start_of(yard, 3)
    assert first and second
    assert first["earliest"] <= due <= first["latest"] < due + COMERS * (due - yard.now)
    assert first["earliest"] <= second["earliest"] and first["latest"] < second["latest"]
    assert second["earliest"] <= second["latest"]


def test_no_end_is_made_up_for_a_job_of_which_nobody_knows_it(yard):
    host = FakeHost(yard, card(0, 2))
    yard.submit(name="epochs", training={"epochs": 1})
    host.trace()
    yard.submit(name="waits", training={"steps": 10})
    later(yard, host, by=11)
    start = start_of(yard, 2)
    assert start is not None and start["latest"] is None and start["earliest"] >= yard.now
    starts(yard, host, 1, step=100, total=1000, step_s=2.0)
    later(yard, host, by=11)
    start = start_of(yard, 2)
    assert start is not None and start["latest"] is not None, "its pace is known by now"


def test_what_can_not_be_foreseen_has_no_start(yard):
    host = FakeHost(yard, card(0, 2))
    yard.submit(name="first")
    yard.submit(name="then", after=1)
    yard.submit(name="huge", resources={"min_memory": "64GiB"})
    yard.http.put(f"{PREFIX}/projects/strict", json={"guarantee": 0, "borrows": False})
    yard.submit(name="over", project="strict")
    host.trace()
    later(yard, host, by=11)
    assert states(yard) == {1: "running", 2: "queued", 3: "queued", 4: "queued"}
    assert [start_of(yard, number) for number in (2, 3, 4)] == [None] * 3


def test_why_says_what_in_the_job_file_would_start_it_now(yard):
    """The large card is held; on the small one the job fits with checkpointing alone, which it forbids."""
    large = FakeHost(yard, card(0, 16))
    small = FakeHost(yard, card(1, 1.5), name="h2", labels={"rack": "b"})
    held = {"memory": {"checkpointing": "off"}, "resources": {"min_memory": "4GiB"}}
    yard.submit(name="holds", **held)
    yard.submit(name="waits", memory={"checkpointing": "off"})
    yard.submit(name="wants", resources={"min_memory": "4GiB"})
    yard.submit(name="apart", resources={"labels": {"rack": "c"}})
    for _ in range(3):
        yard.tick()
        for host in (large, small):
            for wanted in host.report()["traces"]:
                made = small_profile(layers=8, layer_bytes_a_token=400_000)
                host.report(traces=[{**of(wanted), "profile": made.as_dict()}])
    yard.tick()
    assert states(yard) == {1: "running", 2: "queued", 3: "queued", 4: "queued"}

    def advice(number: int) -> list[str]:
        lines: list[str] = yard.http.get(f"{PREFIX}/jobs/{number}/why").json()["advice"]
        return lines

    loosened = "with memory.checkpointing: auto in place of off it would start now on h2 (cpu 1.50 GiB, "
    assert any(line.startswith(loosened) for line in advice(2))
    assert any(line.startswith("without resources.min_memory it would start now on h2") for line in advice(3))
    assert any(
        line.startswith("without resources.labels.rack it would start now on h2") for line in advice(4)
    )
    assert not any("checkpointing" in line for line in advice(3))


@pytest.mark.parametrize("policy", DISCIPLINES)
def test_every_policy_is_a_setting(tmp_path, policy):
    assert load(tmp_path, policy=policy).rules == Rules(policy=policy)


def test_the_scheduler_has_its_own_defaults_where_nothing_is_said(tmp_path):
    nothing = dict.fromkeys(
        ("policy", "preempt", "min_run_s", "patience_s", "share_slowdown", "carry_bytes_s")
    )
    assert load(tmp_path, **nothing).rules == Rules()
    rules = {
        "preempt": False,
        "min_run_s": 0.0,
        "patience_s": 60.0,
        "share_slowdown": 2.0,
        "carry_bytes_s": 1e9,
    }
    given = load(tmp_path, preempt_grace_s=600.0, keep_checkpoints_s=60.0, **rules)
    assert given.rules == Rules(**rules)
    assert (given.preempt_grace_s, given.keep_checkpoints_s) == (600.0, 60.0)
