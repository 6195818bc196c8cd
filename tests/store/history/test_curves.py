"""Curves stay: what an attempt told by step, and what its cards measured."""

from __future__ import annotations

import pytest

from jobs.messages.reports import Evaluated
from jobs.state import Event, Outcome
from orchestrator.store import Store
from orchestrator.store.history import curves
from orchestrator.store.history.fields import QUARTER_S
from tests.builders import NOW, a_line, a_report, a_sample, an_end, because, end_attempt, news, training
from tests.store.history.test_rollup import take_up
from tests.store.test_retention import prune

DAY, END = 86_400.0, NOW + 120


def ended(store: Store) -> tuple[int, int]:
    """A job whose attempt told ten lines and two evaluations; its card was read twelve times."""
    attempt = training(store)
    lines = [a_line(step, grad_norm=float(step), learning_rate=0.1) for step in range(1, 11)]
    tests = [Evaluated(ts=NOW, step=step, loss=1.0) for step in (5, 10)]
    told = news(attempt, progress=lines, evaluations=tests)
    uuid = attempt.gpus[0].uuid
    read = [a_sample(uuid, NOW + at, utilization=at / 200, energy_j=10.0 * at) for at in range(0, 120, 10)]
    store.record_report(attempt.host_id, a_report(told, samples=read), NOW + 110)
    end_attempt(store, attempt.id, 1, an_end(Outcome.SUCCEEDED), Event.SUCCEEDED, because(), END)
    return attempt.job_id, attempt.id


def test_lines_by_step_outlive_their_rows(store: Store) -> None:
    job_id, attempt_id = ended(store)
    before = store.series(job_id)
    prune(store, NOW + 400 * DAY)
    assert len(store.progress(attempt_id)) == 1
    assert store.series(job_id) == before and len(before[0].progress) == 10
    assert before[0].progress[3].grad_norm == 4.0
    prune(store, NOW + 500 * DAY)
    assert store.series(job_id) == before


def test_what_cards_measured_outlives_samples_and_minutes(store: Store) -> None:
    job_id, _ = ended(store)
    live = store.telemetry_curves(job_id, END)
    assert [one.number for one in live] == [1] and sum(live[0].n) == 12
    assert not store.keep_curves(END + 60, 0.0)
    with store.read() as connection:
        assert curves.read_curves(connection, curves.TELEMETRY, [1]) == {}, "samples may still come"
    store.keep_curves(END + curves.SETTLED_S + 1, 0.0)
    take_up(store, NOW + 3 * QUARTER_S)
    store.prune_samples(NOW + 30 * DAY)
    store.prune_minutes(NOW + 30 * DAY, NOW + 30 * DAY)
    (one,) = store.telemetry_curves(job_id, NOW + 99 * DAY)
    assert one == live[0]
    assert max(one.values["utilization"]["max"]) == pytest.approx(0.55)
    assert sum(value or 0 for value in one.energy_j) == pytest.approx(1100)


def test_an_attempt_that_is_too_long_for_samples_is_drawn_from_minutes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, _ = ended(store)
    monkeypatch.setattr(curves, "_MOST_SAMPLES", 0)
    take_up(store, NOW + QUARTER_S)
    (one,) = store.telemetry_curves(job_id, END)
    assert one.step_s == 60 and sum(one.n) == 12


def test_it_keeps_some_at_a_time_and_each_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(store)
    monkeypatch.setattr(curves, "AT_A_TIME", 1)
    later = END + curves.SETTLED_S + 1
    assert store.keep_curves(later, 0.0) and not store.keep_curves(later, 0.0)


def test_a_curve_that_can_not_be_read_is_left_out(store: Store) -> None:
    job_id, attempt_id = ended(store)
    with store.write() as connection:
        for kind in (curves.PROGRESS, curves.TELEMETRY):
            connection.execute(
                curves.curves.insert().values(attempt_id=attempt_id, kind=kind, data=b"no curve")
            )
    assert len(store.series(job_id)[0].progress) == 10
    assert len(store.telemetry_curves(job_id, END)) == 1
