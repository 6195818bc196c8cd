"""What sharing is judged by: which jobs shared a card when, lines of progress, and which were separated."""

from __future__ import annotations

import math

from jobs.state import Code, Event, Reason
from jobs.units import GiB
from orchestrator.store import Store
from orchestrator.store.attempts.colocation import CardLease, Window
from orchestrator.store.rows import AttemptRow
from tests.builders import (
    NOW,
    RUNG,
    a_line,
    a_projection,
    a_report,
    an_end,
    because,
    end_attempt,
    joined,
    news,
    start_attempt,
    submitted,
)


def beside(store: Store, host_id: int, card: int, now: float) -> AttemptRow:
    """A new job's attempt on a card that is shared."""
    job = submitted(store)
    attempt = start_attempt(store, job.id, host_id, [card], RUNG, a_projection(5 * GiB), now, shared=True)
    assert attempt is not None
    return attempt


def test_who_lay_on_a_card_and_when(store: Store) -> None:
    host_id, (card, other) = joined(store, gpus=2)
    first, second = (beside(store, host_id, card, NOW + at) for at in (0, 10))
    beside(store, host_id, other, NOW)
    end_attempt(store, first.id, 1, an_end(), Event.SUCCEEDED, because(), NOW + 20)
    third = beside(store, host_id, card, NOW + 30)
    held = [CardLease(second.id, NOW + 10, None), CardLease(third.id, NOW + 30, None)]
    both = store.leases_of([card, other], NOW)
    assert both[card] == [CardLease(first.id, NOW, NOW + 20), *held] and len(both[other]) == 1
    assert store.leases_of([card], NOW + 20) == {card: held}


def test_lines_of_a_time_the_last_of_them_and_the_very_first(store: Store) -> None:
    host_id, (card,) = joined(store)
    one, two, silent = (beside(store, host_id, card, NOW) for _ in range(3))
    said = [a_line(step) for step in range(3, 9)]  # at NOW + step
    store.record_report(host_id, a_report(news(one, progress=said), news(two, progress=said[2:])), NOW)
    assert store.first_lines([one.id, two.id, silent.id]) == {one.id: NOW + 3, two.id: NOW + 5}
    assert store.first_lines([]) == {}

    def steps(since: float, until: float, most: int = 9) -> list[int]:
        (found,) = store.lines_within([Window(one.id, NOW + since, NOW + until)], most)
        return [line.step for line in found]

    assert steps(0, math.inf) == [3, 4, 5, 6, 7, 8]
    assert steps(4, 7) == [5, 6, 7], "a neighbour that came at 4 has line 4 still before it"
    assert steps(0, 7, most=2) == [6, 7]
    assert steps(8, 99) == []
    several = [Window(two.id, 0, math.inf), Window(silent.id, 0, math.inf), Window(one.id, 0, NOW + 4)] * 500
    found = store.lines_within(several, 2)
    assert [[line.step for line in lines] for lines in found] == [[7, 8], [], [3, 4]] * 500
    assert {line.attempt_id for line in found[0]} == {two.id} and store.lines_within([], 2) == []


def test_who_was_parted_from_whom_outlives_the_attempt(store: Store) -> None:
    host_id, (card,) = joined(store)
    one, two, three = (beside(store, host_id, card, NOW) for _ in range(3))
    slow = Reason(Code.PREEMPTED, "too slow", {"apart_from": [one.job_id, two.job_id]})
    assert store.request_stop(three.id, "preempted", NOW, slow)
    assert store.request_stop(two.id, "preempted", NOW, Reason(Code.PREEMPTED, "room", {"for_job": 9}))
    end_attempt(store, three.id, 1, an_end(), Event.REQUEUED, because(), NOW)
    pairs = {(three.job_id, one.job_id), (three.job_id, two.job_id)}
    assert store.parted([one.job_id, two.job_id, three.job_id]) == pairs
    assert store.parted([two.job_id]) == store.parted([]) == set()
