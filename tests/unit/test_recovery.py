"""What follows when an attempt ends."""

from __future__ import annotations

import pytest

from jobs.recovery import MAX_LOST_IN_A_ROW, Finish, Past, Requeue, backoff_s, decide
from jobs.report import Ended
from jobs.state import Code, Event, Outcome
from tests.fleets import spec


def ended(outcome: Outcome, steps: int = 3, message: str = "") -> Ended:
    return Ended(ts=0, outcome=outcome, steps=steps, message=message)


@pytest.mark.parametrize(
    ("outcome", "event", "code"),
    [
        (Outcome.SUCCEEDED, Event.SUCCEEDED, Code.SUCCEEDED),
        (Outcome.CANCELLED, Event.CANCELLED, Code.CANCELLED),
        (Outcome.TIMEOUT, Event.FAILED, Code.TIMEOUT),
        (Outcome.OOM, Event.FAILED, Code.OOM),
        (Outcome.FAILED, Event.FAILED, Code.FAILED),
    ],
)
def test_these_outcomes_end_the_job(outcome, event, code):
    decision = decide([], ended(outcome), spec(time_limit="1h"), cancel_requested=False)
    assert isinstance(decision, Finish)
    assert (decision.event, decision.reason.code) == (event, code)


def test_a_failure_spends_a_retry_with_growing_backoff():
    first = decide([], ended(Outcome.FAILED, message="boom"), spec(retries=1), False)
    assert isinstance(first, Requeue) and first.delay_s == backoff_s(1) > 0
    assert "boom" in first.reason.text
    second = decide([Past(Outcome.FAILED, 3)], ended(Outcome.FAILED), spec(retries=1), False)
    assert isinstance(second, Finish) and second.event is Event.FAILED
    assert backoff_s(1) < backoff_s(2) <= backoff_s(50) == 600


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.NOT_STARTED, Outcome.PREEMPTED])
def test_what_is_not_the_jobs_fault_spends_no_retry(outcome):
    assert isinstance(decide([], ended(outcome), spec(), False), Requeue)


def test_a_job_that_is_lost_again_and_again_without_progress_is_given_up():
    history = [Past(Outcome.LOST, 3)] * (MAX_LOST_IN_A_ROW - 1)
    decision = decide(history, ended(Outcome.LOST, steps=3), spec(), False)
    assert isinstance(decision, Finish) and decision.reason.code is Code.LOST
    moved_on = decide(history, ended(Outcome.LOST, steps=30), spec(), False)
    assert isinstance(moved_on, Requeue)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.LOST, Outcome.OOM, Outcome.PREEMPTED])
def test_a_cancel_that_was_asked_for_is_what_ends_the_job(outcome):
    decision = decide([], ended(outcome), spec(retries=5), cancel_requested=True)
    assert isinstance(decision, Finish) and decision.event is Event.CANCELLED


def test_success_wins_over_a_late_cancel():
    decision = decide([], ended(Outcome.SUCCEEDED), spec(), cancel_requested=True)
    assert isinstance(decision, Finish) and decision.event is Event.SUCCEEDED
