"""The invariants' check finds each kind of breach: made here with bare SQL, since the store makes none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from jobs.state import Event, JobState
from jobs.units import GiB
from orchestrator.store import Store, check
from orchestrator.store.engine.database import Database
from orchestrator.store.maintenance.audit import faults
from orchestrator.store.rows import AttemptRow
from orchestrator.store.schema import tables
from tests.builders import NOW, a_report, an_end, because, end_attempt, news, submitted, training

J, A, L, E = tables.jobs, tables.attempts, tables.leases, tables.events


def _another_attempt(job: int, attempt: AttemptRow) -> list[sa.Executable]:
    """An open attempt 90 of the same job, which the database would refuse."""
    values = {
        "id": 90,
        "job_id": job,
        "number": 2,
        "host_id": attempt.host_id,
        "opened_at": 0,
        "log_bytes": 0,
    }
    return [sa.text("DROP INDEX uq_attempts_open"), A.insert().values(rung={}, projection={}, **values)]


BREACHES: dict[str, Callable[[int, AttemptRow], list[sa.Executable]]] = {
    "2 open leases": lambda job, attempt: [
        sa.text("DROP INDEX uq_leases_exclusive"),
        *_another_attempt(job, attempt),
        L.insert().values(attempt_id=90, gpu_id=attempt.gpus[0].id, rank=0, exclusive=True, memory_bytes=0),
    ],
    "2 open leases, though 1 of them exclusive": lambda job, attempt: [
        *_another_attempt(job, attempt),
        L.insert().values(attempt_id=90, gpu_id=attempt.gpus[0].id, rank=0, exclusive=False, memory_bytes=0),
    ],
    f"{30 * GiB} bytes are promised of {24 * GiB}": lambda job, attempt: [
        *_another_attempt(job, attempt),
        L.update().values(exclusive=False, memory_bytes=15 * GiB),
        L.insert().values(
            attempt_id=90, gpu_id=attempt.gpus[0].id, rank=0, exclusive=False, memory_bytes=15 * GiB
        ),
    ],
    "has started, but job": lambda job, attempt: [
        J.insert().from_select(
            list(J.c.keys()), sa.select(*(sa.literal(91) if c.name == "id" else c for c in J.c))
        ),
        sa.text(f"INSERT INTO job_links VALUES ({job}, 91, 'success')"),
    ],
    "bytes are promised of": lambda job, attempt: [L.update().values(memory_bytes=2**40)],
    "queued with 1 open attempts": lambda job, attempt: [J.update().values(state=JobState.QUEUED)],
    "(open) holds 0 cards": lambda job, attempt: [L.update().values(released_at=NOW)],
    "(lost) holds 1 card": lambda job, attempt: [A.update().values(outcome="lost", ended_at=NOW)],
    "its events say queued": lambda job, attempt: [E.delete().where(E.c.kind == "started")],
    "a running job can't be started": lambda job, attempt: [
        E.insert().values(ts=NOW, job_id=job, kind="started", text="again", data={})
    ],
    "comes before it was submitted": lambda job, attempt: [E.delete().where(E.c.kind == "submitted")],
    "comes after it was submitted": lambda job, attempt: [
        E.insert().values(ts=NOW, job_id=job, kind="submitted", text="again", data={})
    ],
    "without a reason": lambda job, attempt: [J.update().values(reason_text="")],
    "and ended at": lambda job, attempt: [J.update().values(ended_at=NOW)],
    "though it was cancelled": lambda job, attempt: [
        J.update().values(state=JobState.QUEUED, cancel_requested_at=NOW)
    ],
    "without a projection": lambda job, attempt: [A.update().values(projection={})],
    "projected at up to": lambda job, attempt: [A.update().values(projection={"upper_bytes": 2**40})],
    "its log jumps from byte 0 to 3": lambda job, attempt: [tables.log_chunks.update().values(start_byte=3)],
    "1 of jobs have no uuid": lambda job, attempt: [J.update().values(uuid="")],
    "2 of attempts have the uuid": lambda job, attempt: [
        *_another_attempt(job, attempt),
        A.update().values(uuid="a" * 32),
    ],
    "went on from a checkpoint of another job": lambda job, attempt: [
        A.update().values(resumed={"ts": NOW, "step": 4, "job_uuid": "b" * 32})
    ],
    "6 bytes of log are stored, 9 acknowledged": lambda job, attempt: [A.update().values(log_bytes=9)],
}


@pytest.mark.parametrize("said", BREACHES)
def test_a_breach_is_found(url: str, said: str) -> None:
    store = Store(url)
    attempt = training(store)
    store.record_report(attempt.host_id, a_report(news(attempt, log="hello\n")), NOW)
    assert check(url).faults == []
    _break(store, said, attempt)
    report = check(url)
    store.close()
    assert any(said in fault for fault in report.faults), report.faults
    assert not report.ok


def test_a_job_that_ended_and_moved_on_is_found(url: str) -> None:
    store = Store(url)
    attempt = training(store)
    end_attempt(store, attempt.id, 1, an_end(), Event.SUCCEEDED, because(), NOW)
    with store.write() as connection:
        connection.execute(J.update().values(state=JobState.QUEUED, ended_at=None))
        connection.execute(
            E.insert().values(ts=NOW, job_id=attempt.job_id, kind="requeued", text="", data={})
        )
    with store.read() as connection:
        found = faults(connection)
    store.close()
    assert any("a succeeded job can't be requeued" in fault for fault in found)


@pytest.mark.parametrize(
    "broken",
    [
        J.update().values(state="paused"),
        A.update().values(outcome="fine", ended_at=NOW),
        A.update().values(outcome="lost"),
        J.update().values(name=None),
        A.update().values(job_id=999),
        A.insert().values(
            job_id=1,
            number=1,
            host_id=1,
            rung={},
            projection={},
            opened_at=0,
            log_bytes=0,
            outcome="lost",
            ended_at=1,
        ),
        A.insert().values(job_id=1, number=2, host_id=1, rung={}, projection={}, opened_at=0, log_bytes=0),
    ],
    ids=["state", "outcome", "ended", "null", "foreign key", "same number", "second open attempt"],
)
def test_the_database_itself_refuses(store: Store, broken: sa.Executable) -> None:
    training(store)
    with pytest.raises(sa.exc.IntegrityError), store.write() as connection:
        connection.execute(broken)


def test_a_read_sees_one_instant(store: Store) -> None:
    with store.read() as connection:
        before = connection.execute(sa.select(sa.func.count()).select_from(J)).scalar()
        submitted(store)
        assert connection.execute(sa.select(sa.func.count()).select_from(J)).scalar() == before == 0
    assert store.count_jobs() == 1


def _break(store: Database, said: str, attempt: AttemptRow) -> None:
    with store.write() as connection:
        for statement in BREACHES[said](attempt.job_id, attempt):
            connection.execute(statement)
