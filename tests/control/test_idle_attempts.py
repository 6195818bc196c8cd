"""Attempts that hold their cards and do nothing: which are ended, which are not, and what their jobs say."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.errors import UsageError
from jobs.state import Code, JobState, Outcome
from orchestrator.config import Settings, load
from orchestrator.control.controller import Controller
from orchestrator.control.idle_attempts import idle
from orchestrator.store import Store
from orchestrator.store.history.idle import Activity
from tests.builders import NOW, a_report, a_sample, an_end, news, training
from tests.fakes import FakeDispatch
from tests.store.history.test_rollup import take_up

AFTER_S = 1800.0
IDLE, BUSY = Activity(29, 0, NOW - 70), Activity(29, 1, NOW - 70)


def attempt(*cards: int, kind: str = "cuda", opened_at: float = NOW - 7200) -> SimpleNamespace:
    gpus = [SimpleNamespace(id=card, kind=kind) for card in cards]
    return SimpleNamespace(id=1, job_id=1, gpus=gpus, opened_at=opened_at)


@pytest.mark.parametrize(
    ("one", "seen", "ended"),
    [
        (attempt(1), {1: IDLE}, True),
        (attempt(1, 2), {1: IDLE, 2: IDLE}, True),
        (attempt(1, 2), {1: IDLE, 2: BUSY}, False),
        (attempt(1, 2), {1: IDLE}, False),  # nothing is known of the other
        (attempt(1), {}, False),
        (attempt(1), {1: Activity(20, 0, NOW - 70)}, False),  # a third of the time nobody looked
        (attempt(1), {1: Activity(29, 0, NOW - 600)}, False),  # its host is silent
        (attempt(1, opened_at=NOW - AFTER_S), {1: IDLE}, False),  # part of that was before it
        (attempt(1, kind="cpu"), {1: IDLE}, False),
        (attempt(), {}, False),
    ],
)
def test_only_what_is_known_to_have_done_nothing_ends(one, seen, ended) -> None:
    found = idle([one], seen, NOW, AFTER_S)
    assert bool(found) == ended
    for _, reason in found:
        assert reason.code is Code.IDLE and "for 30m" in reason.text


def run(store: Store, tmp_path: Path, load_at: float, after_s: float | None) -> tuple[Controller, int, int]:
    """An attempt of 40 minutes whose card was as busy as that in each of them; a tick at their end."""
    held = training(store)
    store.record_report(held.host_id, a_report(news(held)), NOW)
    for minute in range(41):
        ts = NOW + 60 * minute
        told = [a_sample(held.gpus[0].uuid, ts, utilization=load_at)]
        store.record_report(held.host_id, a_report(samples=told), ts)
    now = NOW + 2400 + 10
    take_up(store, now)
    settings = Settings(home=tmp_path, token="t", idle_after_s=after_s)
    controller = Controller(store, FakeDispatch(), settings, clock=lambda: now)
    controller.tick(now)
    return controller, held.job_id, held.id


@pytest.mark.parametrize(("load_at", "after_s"), [(0.5, AFTER_S), (0.0, None)])
def test_what_works_goes_on_and_so_does_all_without_the_policy(
    store: Store, tmp_path: Path, load_at: float, after_s: float | None
) -> None:
    _, _, attempt_id = run(store, tmp_path, load_at, after_s)
    assert store.attempt(attempt_id).stop_requested_at is None


def test_an_idle_job_is_cancelled_with_that_reason(store: Store, tmp_path: Path) -> None:
    controller, job_id, attempt_id = run(store, tmp_path, 0.01, AFTER_S)
    assert store.attempt(attempt_id).stop_requested_at is not None
    assert store.job(job_id).reason.code is Code.IDLE
    held = store.attempt(attempt_id)
    later = NOW + 2420
    store.record_report(held.host_id, a_report(news(held, ended=an_end(Outcome.CANCELLED))), later)
    controller.tick(later)
    job = store.job(job_id)
    assert job.state is JobState.CANCELLED and job.reason.code is Code.IDLE
    assert dataclasses.asdict(job.reason)["figures"]["idle_after_s"] == AFTER_S


def test_a_time_that_is_too_short_to_tell_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="5m or more"):
        load(tmp_path, idle_after_s=60.0)
