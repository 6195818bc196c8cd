"""Cards that jobs gave back when they were stopped for others: whose they are, and until when."""

from __future__ import annotations

import pytest

from jobs.state import Code, Event, Outcome, Reason
from orchestrator.store import Store
from orchestrator.store.attempts.cleared_cards import KEPT_S
from orchestrator.store.rows import AttemptRow
from tests.builders import (
    NOW,
    RUNG,
    a_projection,
    an_end,
    because,
    end_attempt,
    joined,
    start_attempt,
    submitted,
)


def cleared(store: Store, now: float = NOW + 50) -> dict[int, int]:
    return store.fleet_rows(now=now).cleared


def started(store: Store, host_id: int, card: int, now: float = NOW) -> AttemptRow:
    attempt = start_attempt(store, submitted(store).id, host_id, [card], RUNG, a_projection(), now)
    assert attempt is not None
    return attempt


def stopped(store: Store, attempt: AttemptRow, stop_for: int | None) -> None:
    """It was asked at NOW + 10, and gave its card back at NOW + 40."""
    room = Reason(Code.PREEMPTED, "stopped to make room", {"for_job": stop_for})
    assert store.request_stop(attempt.id, "preempted", NOW + 10, room, stop_for)
    ended = an_end(outcome=Outcome.PREEMPTED)
    assert end_attempt(store, attempt.id, attempt.number, ended, Event.REQUEUED, because(), NOW + 40)


def test_an_open_attempt_says_for_whom_it_stops(store: Store) -> None:
    host_id, (card,) = joined(store)
    attempt, waits = started(store, host_id, card), submitted(store)
    assert store.attempt(attempt.id).stop_for is None
    assert store.request_stop(attempt.id, "preempted", NOW + 10, None, waits.id)
    (found,) = store.fleet_rows(now=NOW + 20).attempts
    assert found.stop_for == waits.id
    assert cleared(store) == {}, "it has not come back yet"


def test_a_card_that_came_back_is_of_the_job_that_it_was_cleared_for(store: Store) -> None:
    host_id, (card, other) = joined(store, gpus=2)
    attempt, plain, waits = started(store, host_id, card), started(store, host_id, other), submitted(store)
    stopped(store, attempt, waits.id)
    stopped(store, plain, None)
    assert cleared(store) == {card: waits.id}
    assert cleared(store, NOW + 40 + KEPT_S) == {}, "not for ever"
    assert store.fleet_rows().cleared == {}, "without a time nothing is decided"


@pytest.mark.parametrize("what", ["cancelled", "began", "came back since", "another had the card"])
def test_a_claim_ends_with_the_wait_that_it_was_for(store: Store, what: str) -> None:
    host_id, (card, other) = joined(store, gpus=2)
    attempt, waits = started(store, host_id, card), submitted(store)
    stopped(store, attempt, waits.id)
    if what == "cancelled":
        store.request_cancel(waits.id, NOW + 45)
    elif what == "another had the card":
        later = started(store, host_id, card, NOW + 45)
        end_attempt(store, later.id, 1, an_end(), Event.SUCCEEDED, because(), NOW + 46)
    else:
        own = start_attempt(store, waits.id, host_id, [other], RUNG, a_projection(), NOW + 45)
        assert own is not None
        if what == "came back since":
            lost = an_end(outcome=Outcome.LOST)
            end_attempt(store, own.id, 1, lost, Event.REQUEUED, because(), NOW + 46)
    assert cleared(store) == {}
