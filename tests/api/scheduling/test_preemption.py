"""Preemption, guarantees and chains through the real controller, store and API, with hosts played by the test."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from orchestrator.cli.render import words
from orchestrator.scheduler.policy import Rules
from tests.api.scheduling.test_scheduling import FakeHost, card, end, job

LONG_S = Rules().min_run_s + 1


def starts(yard, host: FakeHost, attempt_id: int, step: int = 5, total: int = 1000, step_s: float = 1.0):
    """The attempt's trainer is up, and so far."""
    line = {"ts": yard.now, "step": step, "total_steps": total, "step_s": step_s}
    begun = {"ts": yard.now, "pid": 1, "create_time": 1.0}
    number = attempt_of(yard, attempt_id)["number"]
    host.report(attempts=[{"attempt_id": attempt_id, "number": number, "started": begun, "progress": [line]}])


def attempt_of(yard, attempt_id: int) -> dict[str, Any]:
    jobs = yard.http.get(f"{PREFIX}/jobs").json()["jobs"]
    found = (attempt for one in jobs for attempt in job(yard, one["id"])["attempts_detail"])
    return next(attempt for attempt in found if attempt["id"] == attempt_id)


def stopped(yard, host: FakeHost, attempt_id: int, step: int = 50, outcome: Outcome = Outcome.PREEMPTED):
    """The attempt ended so, with a checkpoint."""
    number = attempt_of(yard, attempt_id)["number"]
    kept = {"steps": step, "last_checkpoint": f"/ckpt/step-{step}"}
    host.report(attempts=end(attempt_id, number, outcome, **kept))
    yard.tick()


def later(yard, *hosts: FakeHost, by: float = LONG_S) -> None:
    """Time goes by; the hosts are heard of all the while."""
    yard.now += by
    for host in hosts:
        host.report()
    yard.tick()


def stops(host: FakeHost) -> list[tuple[int, str, float]]:
    """What the host is told to end: attempt, reason, grace."""
    return [(stop["attempt_id"], stop["reason"], stop["grace_s"]) for stop in host.report()["stops"]]


def code(yard, number: int) -> str:
    found: str = job(yard, number)["reason"]["code"]
    return found


def states(yard) -> dict[int, str]:
    return {one["id"]: one["state"] for one in yard.http.get(f"{PREFIX}/jobs").json()["jobs"]}


def begun(yard, *cards: dict[str, Any], **sections: Any) -> FakeHost:
    """A host with cards, and job 1, low unless it is said otherwise, that trains on the first."""
    host = FakeHost(yard, *(cards or (card(0, 2),)))
    yard.submit(**{"name": "low", "priority": "low", "training": {"steps": 1000}, **sections})
    host.trace()
    assert job(yard)["state"] == "running"
    starts(yard, host, 1)
    return host


def test_a_low_job_is_stopped_for_a_high_one_once_it_ran_its_minimum(yard):
    host = begun(yard)
    yard.submit(name="high", priority="high")
    later(yard, host, by=10)
    assert (code(yard, 2), stops(host)) == ("busy", [])
    reason, due = job(yard, 2)["reason"], yard.now - 10 + Rules().min_run_s
    assert reason["text"].endswith("; preempts job 1 once it has run 5m00s, the minimum")
    assert (reason["figures"]["preempts"], reason["figures"]["preempts_at"]) == ([1], due)
    assert words.why(reason, yard.now).endswith(f"the minimum, at {words.clock(due, yard.now)}")
    start = job(yard, 2)["start"]
    assert start["earliest"] == due and start["latest"] <= due + 2 * Rules().stop_s
    later(yard, host, by=Rules().min_run_s - 11)
    assert stops(host) == []
    later(yard, host, by=2)
    assert stops(host) == [(1, "preempted", 120.0)]
    assert (code(yard, 1), code(yard, 2)) == ("preempted", "room")
    assert "job 2" in job(yard, 1)["reason"]["text"] and "job 1" in job(yard, 2)["reason"]["text"]
    later(yard, host, by=5)
    asked = [event for event in job(yard, 1)["events"] if event["kind"] == "stop_requested"]
    assert len(asked) == 1, "asked again and again"
    assert code(yard, 2) == "room" and states(yard) == {1: "running", 2: "queued"}


def test_each_running_job_is_named_for_one_that_is_to_stop_it(yard):
    host = begun(yard, card(0, 2), card(1, 2))
    yard.submit(name="low-too", priority="low", training={"steps": 1000})
    later(yard, host, by=20)
    starts(yard, host, 2)
    for name in ("first", "second", "third"):
        yard.submit(name=name, priority="high")
    yard.submit(name="equal", priority="low")
    later(yard, host, by=10)
    named = {number: job(yard, number)["reason"]["figures"].get("preempts") for number in range(3, 7)}
    assert named == {3: [1], 4: [2], 5: None, 6: None}  # who is left is no lower, or is stopped for another
    assert job(yard, 3)["reason"]["figures"]["preempts_at"] < job(yard, 4)["reason"]["figures"]["preempts_at"]
    seen = job(yard, 3)["reason"]
    later(yard, host, by=30)
    assert job(yard, 3)["reason"] == seen, "written again and again"


def test_nothing_is_due_where_nobody_may_be_stopped(yard):
    yard.set_rules(Rules(preempt=False))
    host = begun(yard)
    yard.submit(name="high", priority="high")
    later(yard, host, by=10)
    assert "preempts" not in job(yard, 2)["reason"]["text"]


def test_a_preempted_job_goes_on_later_and_spends_none_of_its_retries(yard):
    host = begun(yard, retries=0)
    yard.submit(name="high", priority="high")
    later(yard, host)
    stopped(yard, host, 1)
    assert states(yard) == {1: "queued", 2: "running"}
    requeued = job(yard, 1)["events"][-1]
    assert requeued["kind"] == "requeued" and "stopped at step 50" in requeued["text"]
    assert code(yard, 1) == "behind", "job 2 had its turn before it"
    (past,) = job(yard, 1)["attempts_detail"]
    assert (past["outcome"], past["steps"]) == ("preempted", 50)
    host.report(attempts=end(2, 1, Outcome.SUCCEEDED))
    yard.tick()
    assert states(yard) == {1: "running", 2: "succeeded"}
    assert job(yard, 1)["attempts_detail"][-1]["number"] == 2
    host.report(attempts=end(3, 2, Outcome.SUCCEEDED))
    yard.tick()
    assert job(yard, 1)["state"] == "succeeded"


def test_nobody_else_takes_the_card_that_is_being_cleared(yard):
    """Neither one that is ahead in age, nor what is free already of a gang's cards."""
    host = begun(yard, card(0, 2), card(1, 2))
    yard.submit(name="gang", priority="high", resources={"gpus": 2})
    later(yard, host)
    yard.submit(name="passer-by", priority="normal")
    later(yard, host, by=1)
    assert states(yard) == {1: "running", 2: "queued", 3: "queued"}
    assert stops(host) == [(1, "preempted", 120.0)]
    stopped(yard, host, 1)
    assert states(yard) == {1: "queued", 2: "running", 3: "queued"}
    assert len(job(yard, 2)["attempts_detail"][0]["gpus"]) == 2


def test_who_was_promised_a_card_has_it_before_a_newcomer_of_its_own_class(yard):
    """Under `fair` the newcomer's user, who used nothing, would go first; the job that another was stopped for does."""
    host = begun(yard)
    yard.submit(name="high", priority="high")
    later(yard, host)
    assert stops(host) == [(1, "preempted", 120.0)]
    yard.submit(name="newcomer", priority="high", project="idle")
    later(yard, host, by=4)
    reason = job(yard, 2)["reason"]
    assert reason["text"] == "waits until job 1 has saved and stopped"
    assert reason["figures"] == {"awaits": [1], "asked_at": yard.now - 4}
    assert code(yard, 3) == "busy"
    stopped(yard, host, 1)
    assert states(yard) == {1: "queued", 2: "running", 3: "queued"}


def test_a_gangs_first_card_is_kept_until_the_other_is_back(yard):
    """Neither job that waits, nor one that was stopped, takes the card of the first; nobody else is stopped."""
    host = begun(yard, card(0, 2), card(1, 2))
    yard.submit(name="low-too", priority="low")
    yard.tick()
    starts(yard, host, 2)
    yard.submit(name="gang", priority="high", resources={"gpus": 2})
    later(yard, host)
    assert {stop[0] for stop in stops(host)} == {1, 2}
    yard.submit(name="newcomer", priority="high", project="idle")
    stopped(yard, host, 1)
    assert states(yard) == {1: "queued", 2: "running", 3: "queued", 4: "queued"}
    assert (code(yard, 1), code(yard, 3), code(yard, 4)) == ("reserved", "room", "reserved")
    assert job(yard, 4)["reason"]["figures"]["job"] == 3
    stopped(yard, host, 2)
    assert states(yard) == {1: "queued", 2: "queued", 3: "running", 4: "queued"}


def test_the_least_work_is_undone_for_one_card(yard):
    """Of two low jobs the one that started last is stopped, and only that."""
    host = begun(yard, card(0, 2), card(1, 2))
    later(yard, host, by=100)
    yard.submit(name="newer", priority="low")
    yard.tick()
    starts(yard, host, 2)
    yard.submit(name="high", priority="high")
    later(yard, host)
    assert stops(host) == [(2, "preempted", 120.0)]


def test_a_cancel_of_a_job_that_is_being_stopped_ends_it_for_good(yard):
    host = begun(yard)
    yard.submit(name="high", priority="high")
    later(yard, host)
    shown = yard.http.post(f"{PREFIX}/jobs/1/cancel").json()
    assert (shown["state"], shown["cancel_requested"]) == ("running", True)
    stopped(yard, host, 1)
    assert states(yard) == {1: "cancelled", 2: "running"}
    assert code(yard, 1) == "cancelled"


def test_a_job_that_ends_while_it_is_asked_to_stop_has_succeeded(yard):
    host = begun(yard)
    yard.submit(name="high", priority="high")
    later(yard, host)
    stopped(yard, host, 1, 1000, Outcome.SUCCEEDED)
    assert states(yard) == {1: "succeeded", 2: "running"}


def test_a_job_that_was_stopped_for_nobody_after_all_goes_on_at_once(yard):
    host = begun(yard)
    yard.submit(name="high", priority="high")
    later(yard, host)
    yard.http.post(f"{PREFIX}/jobs/2/cancel")
    stopped(yard, host, 1)
    assert states(yard) == {1: "running", 2: "cancelled"}
    assert job(yard, 1)["attempts_detail"][-1]["number"] == 2


@pytest.mark.parametrize(
    ("priority", "rules"), [("normal", Rules()), ("high", Rules(preempt=False))], ids=["peer", "forbidden"]
)
def test_nobody_is_stopped_for_a_peer_or_where_it_is_forbidden(yard, priority, rules):
    yard.set_rules(rules)
    host = begun(yard, priority="normal")
    yard.submit(name="waits", priority=priority)
    for _ in range(5):
        later(yard, host)
    assert (stops(host), code(yard, 2)) == ([], "busy")


def test_a_trainer_that_never_came_up_is_put_off_not_cancelled(yard):
    yard.set_rules(Rules(min_run_s=0.0))
    host = FakeHost(yard, card(0, 2))
    yard.submit(name="low", priority="low")
    host.trace()
    yard.submit(name="high", priority="high")
    yard.tick()
    assert stops(host) == [(1, "preempted", 120.0)]
    later(yard, host, by=130)
    yard.tick()
    assert states(yard) == {1: "queued", 2: "running"}


def project(yard, name: str, **terms: Any) -> None:
    assert yard.http.put(f"{PREFIX}/projects/{name}", json=terms).status_code == 200


def test_a_guaranteed_job_gets_borrowed_cards_back(yard):
    project(yard, "ours", guarantee=1)
    host = begun(yard, card(0, 2), card(1, 2), name="first", priority="normal", project="theirs")
    later(yard, host, by=50)
    yard.submit(name="second", project="theirs")
    yard.tick()
    starts(yard, host, 2)
    assert states(yard) == {1: "running", 2: "running"}
    yard.submit(name="mine", project="ours")
    yard.submit(name="more", project="ours")
    later(yard, host)
    assert stops(host) == [(2, "preempted", 120.0)], "one card is guaranteed, so one is taken back"
    assert (code(yard, 3), code(yard, 4)) == ("room", "busy")
    stopped(yard, host, 2)
    assert states(yard) == {1: "running", 2: "queued", 3: "running", 4: "queued"}
    starts(yard, host, 3)
    later(yard, host)
    assert stops(host) == [], "what is beyond the guarantee stops nobody"


def test_a_project_that_may_not_borrow_leaves_cards_idle_and_says_so(yard):
    project(yard, "strict", guarantee=1, borrows=False)
    host = begun(yard, card(0, 2), card(1, 2), priority="normal", project="strict")
    yard.submit(name="second", project="strict")
    later(yard, host, by=1)
    reason = job(yard, 2)["reason"]
    assert (reason["code"], reason["figures"]) == ("quota", {"held": 1, "guarantee": 1, "gpus": 1})
    assert "strict holds 1 of its 1 GPU " in reason["text"]
    why = yard.http.get(f"{PREFIX}/jobs/2/why").json()
    assert any("tuneyard project set strict --guarantee 2" in line for line in why["advice"])
    project(yard, "strict", borrows=True)
    later(yard, host, by=1)
    assert states(yard) == {1: "running", 2: "running"}


def chain(yard, on: str) -> None:
    yard.submit(name="first")
    yard.submit(name="then", after={"job": 1, "on": on})
    yard.submit(name="last", after=2)


@pytest.mark.parametrize(
    ("on", "outcome", "expected"),
    [
        ("success", Outcome.SUCCEEDED, ["succeeded", "running", "queued"]),
        ("success", Outcome.FAILED, ["failed", "failed", "failed"]),
        ("failure", Outcome.FAILED, ["failed", "running", "queued"]),
        ("failure", Outcome.SUCCEEDED, ["succeeded", "failed", "failed"]),
        ("any", Outcome.FAILED, ["failed", "running", "queued"]),
        ("any", Outcome.SUCCEEDED, ["succeeded", "running", "queued"]),
    ],
)
def test_chains_start_or_fail_with_what_they_wait_for(yard, on, outcome, expected):
    host = FakeHost(yard, card(0, 2), card(1, 2))
    chain(yard, on)
    host.trace()
    yard.tick()
    assert states(yard) == {1: "running", 2: "queued", 3: "queued"}
    assert code(yard, 2) == code(yard, 3) == "after"
    assert "job 1 (running)" in job(yard, 2)["reason"]["text"]
    host.report(attempts=end(1, 1, outcome))
    yard.tick()
    assert list(states(yard).values())[::-1] == expected
    if expected[1] == "failed":
        assert code(yard, 2) == code(yard, 3) == "after"
        assert "job 1 (first)" in job(yard, 2)["reason"]["text"]
        assert "job 2 (then) failed" in job(yard, 3)["reason"]["text"]


def test_why_of_a_job_in_a_chain_speaks_of_the_chain_not_of_cards(yard):
    host = FakeHost(yard, card(0, 2))
    chain(yard, "success")
    host.trace()
    why = yard.http.get(f"{PREFIX}/jobs/3/why").json()
    assert (why["job"]["reason"]["code"], why["hosts"]) == ("after", [])
    (line,) = why["advice"]
    assert "job 2" in line and "priority" not in line


def test_a_cancel_in_a_chain_ends_what_needs_its_success(yard):
    FakeHost(yard, card(0, 2))
    chain(yard, "success")
    yard.http.post(f"{PREFIX}/jobs/1/cancel")
    yard.tick()
    assert states(yard) == {1: "cancelled", 2: "failed", 3: "failed"}
    assert "was cancelled" in job(yard, 2)["reason"]["text"]
    (line,) = yard.http.get(f"{PREFIX}/jobs/2/why").json()["advice"]
    assert "tuneyard requeue 2" in line


def test_a_preempted_job_has_not_ended_for_what_waits_for_any_end(yard):
    host = begun(yard)
    yard.submit(name="then", priority="low", after={"job": 1, "on": "any"})
    yard.submit(name="high", priority="high")
    later(yard, host)
    stopped(yard, host, 1)
    assert states(yard) == {1: "queued", 2: "queued", 3: "running"}
    assert code(yard, 2) == "after"
