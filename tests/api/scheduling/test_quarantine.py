"""One record that can't be read stops that one: the tick goes on for all others, and says what it left alone."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from jobs.errors import Unavailable
from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from orchestrator.control import controller
from orchestrator.control.quarantine import RETRY_S
from orchestrator.scheduler.cache.scheduler_cache import PlanInput
from orchestrator.scheduler.plan import Plan
from orchestrator.store.engine import text
from orchestrator.store.schema.tables import metadata
from tests.api.conftest import Yard
from tests.api.scheduling.test_scheduling import FakeHost, card, end, job

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
    "a project's guarantee": ("projects", "guarantee", "much"),
    "a project's weight": ("projects", "weight", "much"),
    "a lease": ("leases", "memory_bytes", "much"),
    "the rank of a lease": ("leases", "rank", "first"),
    "progress": ("progress", "total_steps", "many"),
    "a loss": ("progress", "loss", "low"),
    "an evaluation": ("evaluations", "loss", "low"),
    "a log": ("log_chunks", "text", "\x00"),
    "a sample": ("samples", "memory_used_bytes", "much"),
    "what holds a card's memory": ("samples", "process_memory", GARBAGE),
    "a submission": ("submissions", "jobs", GARBAGE),
    "when a host was heard of": ("hosts", "last_seen", "late"),
    "disks": ("hosts", "disks", GARBAGE),
    "when a job was submitted": ("jobs", "submitted_at", "late"),
    "a priority": ("jobs", "priority", "high"),
    # SQLite keeps text in a column of times, or of numbers.
    **{
        f"{column} of {table}": (table, column, "garbage")
        for table, columns in {
            "jobs": "started_at ended_at cancel_requested_at not_before queued_at held_at revision",
            "attempts": "number opened_at dispatched_at started_at stop_requested_at log_bytes steps stop_for",
            "hosts": "joined_at drained ray_ready fault_at fault_times",
            "gpus": "memory_bytes idx present expandable",
            "leases": "exclusive",
            "profiles": "bad_input requested_at assigned_at ended_at",
            "data_lengths": "requested_at ended_at bad_input missing",
            "progress": "ts tokens step_s device_bytes skipped",
            "projects": "borrows",
        }.items()
        for column in columns.split()
    },
}


# Bytes that are no UTF-8 can stand in a column of text: written here as Python reads them.
NO_UTF8 = f"h{text.NO_TEXT}ff"
MARK = {True: "?", False: "CAST(? AS TEXT)"}
POISON |= {
    f"{column} of {table}, no UTF-8": (table, column, NO_UTF8)
    for table, columns in {
        "jobs": "name user reason_text spec reason_figures",
        "attempts": "stop_reason message uuid rung projection reported",
        "hosts": "boot fault info running",
        "gpus": "name kind",
        "profiles": "error profile spec",
        "data_lengths": "error lengths",
        "events": "text data",
        "progress": "loss_text",
        "log_chunks": "text",
        "samples": "fault process_memory",
    }.items()
    for column in columns.split()
}


def is_text(value: Any) -> bool:
    return not isinstance(value, str) or text.is_text(value)


def bound(value: Any) -> Any:
    return value if is_text(value) else b"h\xff"


def key_of(table: str) -> list[str]:
    return [column.name for column in metadata.tables[table].primary_key]


def poison(yard: Yard, table: str, column: str, value: str) -> list[tuple[Any, ...]]:
    """All rows that there are get this. What stood there, by their key."""
    with yard.services.store.write() as connection:
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = 1")
        keys = ", ".join(key_of(table))
        before = connection.exec_driver_sql(f'SELECT "{column}", {keys} FROM {table}').all()
        connection.exec_driver_sql(f'UPDATE {table} SET "{column}" = {MARK[is_text(value)]}', (bound(value),))
    return [tuple(row) for row in before]


def heal(yard: Yard, table: str, column: str, before: list[tuple[Any, ...]]) -> None:
    with yard.services.store.write() as connection:
        for row in before:
            mine = " AND ".join(f"{name} = ?" for name in key_of(table))
            connection.exec_driver_sql(f'UPDATE {table} SET "{column}" = ? WHERE {mine}', row)


def runs(yard: Yard) -> FakeHost:
    """Job 1 trains on h1: every table has a row."""
    first = FakeHost(yard, card(0, 2))
    yard.http.put(f"{PREFIX}/projects/default", json={"guarantee": 1, "weight": 2})
    told = yard.http.post(
        f"{PREFIX}/jobs", json={"jobs": [yard.job(name="first")]}, headers={"Idempotency-Key": "once"}
    )
    assert told.status_code == 201, told.text
    first.trace()
    started = end(1, 1, Outcome.SUCCEEDED)
    del started[0]["ended"]
    line = {"ts": yard.now, "step": 3, "total_steps": 9, "tokens": 9, "step_s": 0.5, "loss": 1.0}
    news = {"progress": [line], "evaluations": [{"ts": yard.now, "step": 3, "loss": 1.0}], "log": "a line\n"}
    sample = {"uuid": "cpu-0", "ts": yard.now, "memory_used_bytes": 1, "process_memory": {"1": 2}}
    first.report(attempts=[{**started[0], **news}], samples=[sample])
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


@pytest.mark.parametrize(("column", "value"), [("number", "garbage"), ("uuid", NO_UTF8), ("uuid", b"\x01")])
def test_a_host_goes_on_with_an_attempt_that_can_t_be_named(yard: Yard, column: str, value: Any) -> None:
    """What a host is not told of as open, it ends: it is told by its own word."""
    host = runs(yard)
    (open_before,) = host.report()["attempts"]
    key = {name: open_before[name] for name in ("attempt_id", "job_id", "number", "uuid")}
    before = poison(yard, "attempts", column, value)
    told = host.report(here=[key], running=[1])
    assert [{name: one[name] for name in key} for one in told["attempts"]] == [key]
    assert not told["strange"] and not told["forget"] and not told["stops"]
    heal(yard, "attempts", column, before)
    assert host.report(here=[key], running=[1])["attempts"] == [open_before]


def test_a_job_that_the_plan_itself_raises_for_is_found_and_left_alone(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended the tick for all: nothing after the plan was done."""
    host = FakeHost(yard, *(card(number, 2) for number in range(3)))
    for name in ("a", "odd", "b", "odd", "c"):
        yard.submit(name=name)
    host.trace()
    yard.http.post(f"{PREFIX}/jobs/1/cancel")
    real = controller.plan

    def strange(given: PlanInput) -> Plan:
        if any(waiting.spec.name == "odd" for waiting in given.fleet.queue):
            raise ZeroDivisionError("of this job")
        return real(given)

    before = yard.services.store.job_states([1, 2, 3, 4, 5])
    assert list(before.values()).count("running") == 3
    monkeypatch.setattr(controller, "plan", strange)
    for name in ("odd", "odd", "last"):
        yard.submit(name=name)
    host.report(
        attempts=[*end(1, 1, Outcome.CANCELLED), *end(2, 1, Outcome.SUCCEEDED), *end(3, 1, Outcome.SUCCEEDED)]
    )
    yard.tick()
    states = yard.services.store.job_states([4, 5, 6, 7, 8])
    assert states == {4: "queued", 5: "running", 6: "queued", 7: "queued", 8: "running"}
    assert told(yard) == [("job", 4), ("job", 6), ("job", 7)]
    assert "ZeroDivisionError: of this job" in yard.services.store.job(4).reason.text
    assert yard.http.get(f"{PREFIX}/health").json()["scheduler"] == "ok"
    monkeypatch.undo()
    yard.now += RETRY_S + 1
    host.report()
    yard.tick()
    assert told(yard) == [] and yard.services.store.job_states([4])[4] == "running"


def test_a_plan_that_raises_whatever_the_queue_ends_no_other_step(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = runs(yard)
    yard.submit(name="second")

    def broken(*_: Any, **__: Any) -> Plan:
        raise ZeroDivisionError("of the fleet")

    monkeypatch.setattr(controller, "plan", broken)
    pruned: list[float] = []
    monkeypatch.setattr(yard.services.controller, "_prune", pruned.append)
    first.report(attempts=end(1, 1, Outcome.SUCCEEDED))
    yard.tick()
    assert job(yard)["state"] == "succeeded" and pruned
    assert told(yard) == [("step", "planning")]
    found = yard.http.get(f"{PREFIX}/health").json()
    assert found["scheduler"] == "it can't do this: planning (ZeroDivisionError: of the fleet)"


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


def test_a_link_that_can_t_be_read_stops_no_other_job(yard: Yard) -> None:
    runs(yard)
    yard.submit(name="later", after=[{"job": 1, "on": "success"}])
    before = poison(yard, "job_links", "on", "bored")
    assert before
    second = FakeHost(yard, card(1, 2), name="h2")
    yard.submit(name="second")
    second.trace()
    assert yard.services.store.job_states([3])[3] == "running", yard.services.controller.quarantine.entries()
    heal(yard, "job_links", "on", before)


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
