"""One record that can't be read stops that one: the tick goes on for all others, and says what it left alone."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from jobs.errors import Unavailable
from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from orchestrator.control.quarantine import RETRY_S
from tests.api.conftest import Yard
from tests.api.test_scheduling import FakeHost, card, end, job

GARBAGE = "{no json"
# Column by table, what stands there, and whether anything has to be left alone for it.
POISON: dict[str, tuple[str, str, str]] = {
    "a spec of another version": ("jobs", "spec", '{"colour": "red"}'),
    "a spec that is no JSON": ("jobs", "spec", GARBAGE),
    "a reason that is no JSON": ("jobs", "reason_figures", GARBAGE),
    "a reason of another version": ("jobs", "reason_code", "bored"),
    "a rung that is no JSON": ("attempts", "rung", GARBAGE),
    "a rung of another version": ("attempts", "rung", '{"colour": 1}'),
    "a projection": ("attempts", "projection", GARBAGE),
    "a projection that is a list": ("attempts", "projection", "[1]"),
    "a basis": ("attempts", "basis", GARBAGE),
    "a start": ("attempts", "started", GARBAGE),
    "an end": ("attempts", "reported", GARBAGE),
    "an end of another version": ("attempts", "reported", '{"outcome": "bored"}'),
    "what it resumed": ("attempts", "resumed", GARBAGE),
    "checkpoints": ("attempts", "checkpoints", GARBAGE),
    "a host": ("hosts", "info", GARBAGE),
    "a host of another version": ("hosts", "info", '{"colour": 1}'),
    "what runs on a host": ("hosts", "running", GARBAGE),
    "what was set aside": ("hosts", "aside", GARBAGE),
    "a card of another version": ("gpus", "kind", "abacus"),
    "a profile": ("profiles", "profile", GARBAGE),
    "a profile of another version": ("profiles", "profile", '{"colour": 1}'),
    "a job that was traced": ("profiles", "spec", GARBAGE),
    "lengths": ("data_lengths", "lengths", GARBAGE),
    "an event": ("events", "data", GARBAGE),
}


def poison(yard: Yard, table: str, column: str, value: str) -> list[tuple[Any, ...]]:
    """All rows that there are get this. What stood there, by rowid."""
    with yard.services.store.write() as connection:
        before = connection.exec_driver_sql(f'SELECT "{column}", rowid FROM {table}').all()
        connection.exec_driver_sql(f'UPDATE {table} SET "{column}" = ?', (value,))
    return [tuple(row) for row in before]


def heal(yard: Yard, table: str, column: str, before: list[tuple[Any, ...]]) -> None:
    with yard.services.store.write() as connection:
        for row in before:
            connection.exec_driver_sql(f'UPDATE {table} SET "{column}" = ? WHERE rowid = ?', row)


def runs(yard: Yard) -> FakeHost:
    """Job 1 trains on h1."""
    first = FakeHost(yard, card(0, 2))
    yard.submit(name="first")
    first.trace()
    started = end(1, 1, Outcome.SUCCEEDED)
    del started[0]["ended"]
    first.report(attempts=started)
    yard.tick()
    assert job(yard)["state"] == "running"
    return first


@pytest.mark.parametrize("what", POISON)
def test_others_start_and_end_beside_a_running_job_that_can_t_be_read(yard: Yard, what: str) -> None:
    table, column, value = POISON[what]
    first = runs(yard)
    before = poison(yard, table, column, value)
    assert before
    second = FakeHost(yard, card(1, 2), name="h2")
    yard.services._facts = None  # nobody remembers what stood there
    yard.submit(name="second", training={"sequence_length": 128})
    for host in (first, second):
        host.trace()
    second.report()
    yard.tick()
    states = yard.services.store.job_states([1, 2])
    assert states[2] == "running", yard.services.controller.quarantine.entries()
    second.report(attempts=end(2, 1, Outcome.SUCCEEDED))
    yard.tick()
    assert yard.services.store.job_states([2])[2] == "succeeded"
    heal(yard, table, column, before)


def told(yard: Yard) -> list[tuple[str, Any]]:
    answer = yard.http.get(f"{PREFIX}/quarantine").json()["entries"]
    return [(one["kind"], one["key"]) for one in answer]


def test_a_running_job_whose_spec_can_t_be_read_ends_when_it_can(yard: Yard) -> None:
    """It stopped the scheduler for all: its end could not be decided, nor anything after that."""
    first = runs(yard)
    before = poison(yard, "jobs", "spec", '{"colour": "red"}')
    first.report(attempts=end(1, 1, Outcome.SUCCEEDED))
    for _ in range(3):
        yard.tick()
    assert yard.services.store.job_states([1])[1] == "running"
    assert told(yard) == [("attempt", 1)]
    assert yard.http.get(f"{PREFIX}/health").json()["set_aside"] == 1
    with yard.services.store.read() as connection:
        query = sa.text("SELECT text, data FROM events WHERE kind = 'quarantined' AND job_id = 1")
        (event,) = connection.execute(query).all()
    assert "attempt 1 is left alone" in event.text and "Traceback" in event.data
    heal(yard, "jobs", "spec", before)
    yard.now += RETRY_S + 1
    first.report()
    yard.tick()
    assert job(yard)["state"] == "succeeded" and told(yard) == []


def test_a_queued_job_that_can_t_be_read_waits_and_says_so(yard: Yard) -> None:
    yard.submit(name="bad")
    before = poison(yard, "jobs", "spec", '{"colour": "red"}')
    good = FakeHost(yard, card(0, 2))
    yard.submit(name="good")
    good.trace()
    assert yard.services.store.job_states([1, 2]) == {1: "queued", 2: "running"}
    reason = yard.services.store.job(1).reason
    assert "set aside until this version can handle it" in reason.text, reason
    heal(yard, "jobs", "spec", before)
    good.report(attempts=end(1, 1, Outcome.SUCCEEDED))
    yard.now += RETRY_S + 1
    good.report()
    yard.tick()
    assert job(yard)["state"] == "running"


def test_what_was_measured_and_can_t_be_read_stops_no_plan(yard: Yard) -> None:
    first = runs(yard)
    first.report(attempts=end(1, 1, Outcome.SUCCEEDED, device_bytes=123, step_s=0.5))
    yard.tick()
    assert poison(yard, "observations", "rung", GARBAGE)
    yard.services.controller._calibrated_at = None
    yard.submit(name="second")
    yard.tick()
    assert yard.services.store.job_states([2])[2] == "running"


def test_a_database_that_is_away_is_nobodys_fault(yard: Yard) -> None:
    quarantine = yard.services.controller.quarantine
    with pytest.raises(Unavailable), quarantine.part("job", 1, "planning it", yard.now):
        raise Unavailable("the database is not available")
    assert quarantine.entries() == []


def test_it_is_left_alone_for_a_while_and_told_once(yard: Yard) -> None:
    quarantine, job_id = yard.services.controller.quarantine, yard.submit()["id"]
    for now in (1.0, 2.0):
        with quarantine.part("job", job_id, "planning it", now, job_id):
            raise ValueError("odd")
    found = quarantine.each("job", [job_id, 99], lambda one: one, "planning it", 3.0)
    assert found == [99]
    assert quarantine.each("job", [job_id], lambda one: one, "planning it", 3.0 + RETRY_S) == [job_id]
    events = [event for event in yard.services.store.events(job_id) if event.kind == "quarantined"]
    assert len(events) == 1
