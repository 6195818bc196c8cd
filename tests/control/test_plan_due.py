"""When a plan is due though nobody of this process asked: another server stored something, or a back-off is over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.control.plan_due import PlanDue
from orchestrator.store import Store
from tests.builders import because, submitted
from tests.fleets import fleet, waiting

EVERY_S = 5.0


@pytest.fixture
def url(sqlite_url: str) -> str:
    return sqlite_url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    made = Store(url)
    yield made
    made.close()


def test_what_another_server_stored_is_noticed_at_the_next_look(store: Store, url: str) -> None:
    due = PlanDue(store, EVERY_S)
    assert due.now(0.0, 100.0), "before the first"
    due.planned(0.0, None, 100.0)
    assert not due.now(0.5, 100.5)
    other = Store(url)
    job = submitted(other)
    assert due.now(1.0, 101.0)
    due.begin()
    due.planned(1.0, None, 101.0)
    assert not due.now(1.5, 101.5), "it was planned with"
    other.request_cancel(job.id, 101.6)
    assert due.now(2.0, 102.0)
    other.close()


def test_what_another_server_stored_while_a_plan_was_made_waits_for_no_later_one(
    store: Store, url: str
) -> None:
    due, other = PlanDue(store, EVERY_S), Store(url)
    due.begin()
    job = submitted(other)  # after the plan read its rows
    store.fail_queued(job.id, because(text="refused by the plan"), 100.2)
    due.planned(0.0, None, 100.3)
    assert due.now(0.5, 100.5)
    due.begin()
    due.planned(0.5, None, 100.6)
    assert not due.now(1.0, 101.0), "that one saw it"
    other.close()


def test_what_a_plan_writes_itself_is_no_news(store: Store) -> None:
    job, due = submitted(store), PlanDue(store, EVERY_S)
    due.begin()
    store.fail_queued(job.id, because(text="it can not train"), 100.2)
    due.planned(0.0, None, 100.3)
    assert not due.now(0.5, 100.5)


def test_a_back_off_that_is_over_is_planned_with_at_once(store: Store) -> None:
    due = PlanDue(store, EVERY_S)
    waits = fleet([], [waiting(1, not_before=103.0), waiting(2)])
    due.planned(0.0, waits, 100.0)
    assert not due.now(2.5, 102.5)
    assert due.now(3.0, 103.0)
    due.planned(3.0, waits, 103.0)
    assert not due.now(7.5, 107.5), "no plan after the other, for a back-off that is over"
    assert due.now(8.0, 108.0), "after a while, in any case"
