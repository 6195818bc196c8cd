"""What goes with time, and what stays: the job, how it ended, and all that the invariants ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from jobs.state import Event, Outcome
from jobs.units import GiB
from orchestrator.config import Settings
from orchestrator.control.controller import Controller
from orchestrator.store import Store, retention
from orchestrator.store.retention import LOG_GONE
from orchestrator.store.schema.tables import evaluations, events, log_chunks, observations, progress
from tests.builders import NOW, a_line, a_report, an_end, because, end_attempt, joined, news, training
from tests.fakes import FakeDispatch

DAY = 86_400.0
LONG_LOG = "a line of a log\n" * 40


def an_ended_job(store: Store, at: float = NOW) -> tuple[int, int]:
    """A job and its attempt, with a log, steps and events; it ended at that time."""
    attempt = training(store)
    lines = [a_line(step) for step in range(1, 6)]
    tests = [{"ts": NOW, "step": step, "loss": 1.0} for step in (2, 4)]
    told = news(attempt, log=LONG_LOG, progress=lines, evaluations=tests)
    store.record_report(attempt.host_id, a_report(told), NOW)
    store.request_stop(attempt.id, "cancelled", NOW)
    end_attempt(store, attempt.id, 1, an_end(Outcome.FAILED), Event.FAILED, because(), at)
    return attempt.job_id, attempt.id


def count(store: Store, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> int:
    with store.read() as connection:
        return connection.execute(
            sa.select(sa.func.count()).select_from(table).where(*conditions)
        ).scalar_one()


def prune(store: Store, before: float) -> None:
    while store.prune_history(before):
        pass


def test_details_of_a_job_go_once_it_has_ended_for_long_enough(store: Store) -> None:
    job, attempt = an_ended_job(store)
    before = [event.kind for event in store.events(job)]
    prune(store, NOW)  # not before it ended
    assert store.logs(attempt).text == LONG_LOG and len(store.progress(attempt)) == 5
    prune(store, NOW + DAY)
    assert store.logs(attempt).text == LOG_GONE
    assert store.attempt(attempt).log_bytes == len(LOG_GONE), "who follows it comes to its end"
    assert [line.step for line in store.progress(attempt)] == [5], "its last loss stays"
    assert count(store, evaluations) == 1
    kept = [event.kind for event in store.events(job)]
    assert kept == [kind for kind in before if kind in ("submitted", "started", "failed")] != before
    assert store.job(job).ended and store.attempt(attempt).outcome is Outcome.FAILED


def test_what_runs_keeps_all_of_it(store: Store) -> None:
    attempt = training(store)
    told = news(attempt, log=LONG_LOG, progress=[a_line(step) for step in range(1, 6)])
    store.record_report(attempt.host_id, a_report(told), NOW)
    before = len(store.events(attempt.job_id))
    prune(store, NOW + 999 * DAY)
    assert store.logs(attempt.id).text == LONG_LOG and len(store.progress(attempt.id)) == 5
    assert len(store.events(attempt.job_id)) == before


def test_events_of_hosts_go_too(store: Store) -> None:
    joined(store)
    assert count(store, events) > 0
    prune(store, NOW + DAY)
    assert count(store, events) == 0


def test_it_does_some_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "AT_A_TIME", 1)
    _, first = an_ended_job(store)
    assert store.prune_history(NOW + DAY)
    assert count(store, log_chunks, log_chunks.c.attempt_id == first) == 1
    assert count(store, progress) == 1
    assert not store.prune_history(NOW + DAY)


def test_observations_stay_as_far_as_calibration_reads_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "NEWEST", 2)
    sizes = {"allocated_bytes": GiB, "reserved_bytes": GiB, "device_bytes": GiB}
    for day in range(4):
        attempt = training(store)
        ended = an_end(**sizes, step_s=0.6)
        end_attempt(store, attempt.id, 1, ended, Event.SUCCEEDED, because(), NOW + day * DAY)
    prune(store, NOW)
    assert count(store, observations) == 4, "none is older"
    prune(store, NOW + DAY)
    assert count(store, observations) == 3
    prune(store, NOW + 99 * DAY)
    assert count(store, observations) == 2, "the newest, however old"


def test_the_controller_prunes_now_and_then(store: Store, tmp_path: Path) -> None:
    _, attempt = an_ended_job(store)
    controller = Controller(store, FakeDispatch(), Settings(home=tmp_path, token="t", keep_history_s=DAY))
    controller.tick(NOW + 2)
    assert store.logs(attempt).text == LONG_LOG
    controller.tick(NOW + 2 * DAY)
    assert store.logs(attempt).text == LOG_GONE
