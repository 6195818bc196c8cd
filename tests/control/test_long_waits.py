"""Jobs that wait for long: told once each time that they are queued, and not where somebody wants them to wait."""

from __future__ import annotations

from orchestrator.control.long_waits import AT_ONCE, LOOK_EVERY_S, LongWaits
from orchestrator.store import Store
from orchestrator.store.actions import WantedEvents
from orchestrator.store.requests import Actor
from tests.builders import NOW, submitted

AFTER_S = 600.0


def told(store: Store) -> list[tuple[int | None, str]]:
    found = store.events_of(WantedEvents(kinds=["waiting"]), 1000)
    return sorted((row.event.job_id, row.event.text) for row in found)  # type: ignore[type-var]


def look(store: Store, at: float, waits: LongWaits | None = None) -> None:
    (waits or LongWaits(store, AFTER_S)).tell(store.fleet_rows(now=NOW + at).queued, NOW + at)


def test_a_long_wait_is_told_once_with_its_reason_also_by_the_next_server(store: Store) -> None:
    job = submitted(store)
    look(store, AFTER_S - 1)
    assert told(store) == []
    for at in (AFTER_S, AFTER_S + 60, AFTER_S + 7200):
        look(store, at)
    assert told(store) == [(job.id, f"has waited for 10m00s: {job.reason.text}")]


def test_a_job_that_is_held_waits_as_somebody_wants(store: Store) -> None:
    job = submitted(store, held_by="ada")
    look(store, 9999)
    assert told(store) == []
    store.release(job.id, NOW + 9_000, Actor("ada"))
    look(store, 10_001)
    assert [one for one, _ in told(store)] == [job.id]


def test_nothing_is_told_where_nobody_asks(store: Store) -> None:
    submitted(store)
    look(store, 9e9, LongWaits(store, None))
    assert told(store) == []


def test_a_long_queue_is_told_bit_by_bit(store: Store) -> None:
    for _ in range(AT_ONCE + 5):
        submitted(store)
    waits = LongWaits(store, AFTER_S)
    look(store, AFTER_S, waits)
    look(store, AFTER_S + 1, waits)  # too soon
    assert len(told(store)) == AT_ONCE
    look(store, AFTER_S + LOOK_EVERY_S, waits)
    assert len(told(store)) == AT_ONCE + 5
