"""A snapshot only reads, and costs the same statements however many jobs wait again."""

from __future__ import annotations

import sqlalchemy as sa

from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from orchestrator.control.snapshot_reader import Snapshot
from tests.api.conftest import Yard
from tests.api.scheduling.test_scheduling import FakeHost, card, end, job

JOBS = 5


def taken(yard: Yard) -> tuple[Snapshot, list[str]]:
    """A snapshot as the next tick would take it, and the statements that it took."""
    controller = yard.services.controller
    rows = controller.store.fleet_rows(now=yard.now)
    statements: list[str] = []
    listen = lambda *given: statements.append(given[2])  # noqa: E731
    sa.event.listen(sa.Engine, "before_cursor_execute", listen)
    snapshot = controller.snapshots.take(rows, controller.settings, yard.now)
    sa.event.remove(sa.Engine, "before_cursor_execute", listen)
    return snapshot, statements


def test_jobs_that_wait_again_cost_no_statement_each_and_nothing_is_written(yard: Yard) -> None:
    host = FakeHost(yard, *(card(number, 2) for number in range(JOBS)))
    for number in range(JOBS):
        yard.submit(name=f"job{number}")
    host.trace()
    running = [job(yard, number) for number in range(1, JOBS + 1)]
    assert {one["state"] for one in running} == {"running"}
    yard.http.post(f"{PREFIX}/hosts/h1/drain", json={"drained": True})
    counts = []
    for some in (running[:1], running[1:]):
        for one in some:
            host.report(attempts=end(one["attempts_detail"][0]["id"], 1, Outcome.LOST))
        yard.tick()
        snapshot, statements = taken(yard)
        counts.append((len(snapshot.fleet.queue), len(statements)))
        assert all(waiting.shaky for waiting in snapshot.fleet.queue), "their attempts were read"
        written = [text for text in statements if not text.startswith(("SELECT", "BEGIN", "PRAGMA", "WITH"))]
        assert not written
    assert [queued for queued, _ in counts] == [1, JOBS]
    assert counts[0][1] == counts[1][1]
    again, _ = taken(yard)
    assert [one.generation for one in again.fleet.queue] == [one.generation for one in snapshot.fleet.queue]


def test_a_job_that_can_not_train_is_found_by_the_snapshot_and_ended_by_a_step_of_its_own(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    yard.tick()
    key = host.report()["traces"][0]["key"]
    host.report(traces=[{"key": key, "error": "no such layer", "bad_input": True}])
    snapshot, _ = taken(yard)
    assert snapshot.faults == {1: "no such layer"}
    assert job(yard)["state"] == "queued"
    yard.tick()
    assert job(yard)["state"] == "failed"
