"""Leases of a span, with what their cards drew and when they did nothing."""

from __future__ import annotations

import pytest

from jobs.state import Event, Outcome
from orchestrator.store import Store
from orchestrator.store.accounting import report
from tests.builders import a_line, a_report, a_sample, an_end, because, end_attempt, news, training
from tests.store.history.test_rollup import take_up

BEGIN = 1_000_000.0 - 1_000_000.0 % 900 + 900  # a quarter of an hour begins


def an_attempt(store: Store, monkeypatch: pytest.MonkeyPatch) -> object:
    """Opened as a minute begins, training from the second minute on; its card idles in the fourth."""
    monkeypatch.setattr("tests.builders.NOW", BEGIN)
    attempt = training(store)
    with store.write() as connection:
        connection.exec_driver_sql(f"UPDATE attempts SET opened_at = {BEGIN}")
    line = a_line(1, ts=BEGIN + 70, step_s=10.0)
    store.record_report(attempt.host_id, a_report(news(attempt, progress=[line])), BEGIN + 70)
    uuid = attempt.gpus[0].uuid
    for minute in range(5):
        for at in (0, 30):
            load = 0.01 if minute == 3 else 0.9
            ts = BEGIN + 60 * minute + at
            told = [a_sample(uuid, ts, utilization=load, energy_j=100.0 * (2 * minute + at / 30))]
            store.record_report(attempt.host_id, a_report(samples=told), ts)
    return attempt


def test_a_lease_has_its_parts_and_its_energy(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = an_attempt(store, monkeypatch)
    ended = an_end(Outcome.SUCCEEDED, ts=BEGIN + 300)
    end_attempt(store, attempt.id, 1, ended, Event.SUCCEEDED, because(), BEGIN + 300)
    take_up(store, BEGIN + 900)
    (one,) = store.lease_usage(BEGIN - 100, BEGIN + 10_000, BEGIN + 900)
    assert (one.job_id, one.card, one.share) == (attempt.job_id, "alpha/0", 1.0)
    assert (one.parts.startup_s, one.parts.idle_s, one.parts.lost_s) == (60, 60, 0)
    assert one.parts.total_s == 300
    assert one.energy_j == pytest.approx(900.0)
    (half,) = store.lease_usage(BEGIN + 150, BEGIN + 10_000, BEGIN + 900)
    assert (half.parts.total_s, half.parts.startup_s) == (150, 0)
    assert half.energy_j == pytest.approx(500.0)
    assert store.lease_usage(BEGIN + 300, BEGIN + 400, BEGIN + 900) == []


def test_an_open_lease_counts_until_now(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    an_attempt(store, monkeypatch)
    take_up(store, BEGIN + 900)
    (one,) = store.lease_usage(BEGIN - 100, BEGIN + 10_000, BEGIN + 400)
    assert (one.parts.total_s, one.parts.lost_s) == (400, 0)


def test_many_minutes_are_read_as_quarters(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    an_attempt(store, monkeypatch)
    take_up(store, BEGIN + 1000)
    monkeypatch.setattr(report, "MOST_MINUTES", 0)
    (one,) = store.lease_usage(BEGIN, BEGIN + 10_000, BEGIN + 900)
    assert one.energy_j == pytest.approx(900.0)
    assert one.parts.total_s == 900 and one.parts.idle_s == 0, "in its quarter the card was busy"
