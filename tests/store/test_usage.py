"""GPU-seconds by project and user, decayed, and what earlier attempts held."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobs.state import Code, Event, Outcome
from jobs.units import GiB
from orchestrator.scheduler.usage import HALF_LIFE_S
from orchestrator.store import Store
from orchestrator.store.usage import SETTLED_S, WINDOW
from tests.builders import (
    CARD_BYTES,
    NOW,
    RUNG,
    a_job,
    a_line,
    a_projection,
    a_report,
    an_end,
    because,
    end_attempt,
    joined,
    news,
    opened,
    start_attempt,
    submitted,
)

DAY = 86400.0


def ran(store: Store, seconds: float, at: float, gpus: int = 1, **values: object) -> int:
    """A job that held cards from `at` on, and ended."""
    (host_id, *_), cards = [joined(store, "alpha", 4)[0]], [gpu.id for gpu in store.gpus()]
    job = store.submit([a_job(**values)], at)[0]
    attempt = opened(store, job, host_id, cards[:gpus], at)
    end_attempt(store, attempt.id, 1, an_end(), Event.SUCCEEDED, because(), at + seconds)
    return job.id


def usage(store: Store, now: float, half_life_s: float = HALF_LIFE_S) -> dict[tuple[str, str], float]:
    rows = store.fleet_rows(now=now, half_life_s=half_life_s).usage
    assert all(row.gpu == "NVIDIA A10G" for row in rows)
    return {(row.project, row.user): row.gpu_s for row in rows}


def test_usage_is_by_project_and_user_and_halves(store: Store) -> None:
    ran(store, 100, NOW, gpus=2, project="ours")
    ran(store, 50, NOW + 100, user="bob")
    now = NOW + 150
    assert usage(store, now) == {
        ("ours", "ada"): pytest.approx(200, rel=1e-3),
        ("default", "bob"): pytest.approx(50, rel=1e-3),
    }
    later = usage(store, now + HALF_LIFE_S)
    assert later == {key: pytest.approx(gpu_s / 2) for key, gpu_s in usage(store, now).items()}
    assert store.fleet_rows().usage == []


def test_the_sum_of_many_looks_is_that_of_one(open_store: Callable[[], Store]) -> None:
    """What is kept between looks, and what a server finds that has just begun, are the same."""
    store = open_store()
    for number in range(6):
        began, seconds = NOW + number * SETTLED_S, 1000 + 7 * number
        ran(store, seconds, began, user=f"user-{number % 2}")
        now = began + seconds + 10  # some of what ended is settled by then, some is not
        looked, fresh = usage(store, now), usage(open_store(), now)
        assert looked == {key: pytest.approx(gpu_s) for key, gpu_s in fresh.items()}
    now = NOW + 5 * HALF_LIFE_S
    assert usage(store, now) == {key: pytest.approx(x) for key, x in usage(open_store(), now).items()}


def test_another_half_life_and_a_clock_that_went_back_begin_anew(store: Store) -> None:
    ran(store, 10 * DAY, NOW)
    now = NOW + 10 * DAY
    whole, short = usage(store, now, 1000 * DAY), usage(store, now, DAY)
    assert whole["default", "ada"] == pytest.approx(10 * DAY, rel=5e-3)
    # Of a lease without a beginning one half-life is left, over ln 2.
    assert short["default", "ada"] == pytest.approx(DAY / 0.6931, rel=5e-3)
    assert usage(store, now - 5 * DAY, 1000 * DAY)["default", "ada"] == pytest.approx(5 * DAY, rel=5e-3)
    assert usage(store, now, 1000 * DAY) == whole


def test_what_is_long_ago_is_not_read(store: Store) -> None:
    ran(store, DAY, NOW)
    assert usage(store, NOW + DAY + (WINDOW + 1) * HALF_LIFE_S) == {}


def test_open_leases_count_until_now_and_shared_ones_by_their_share(store: Store) -> None:
    host_id, (card,) = joined(store)
    for user, upper_bytes in (("ada", CARD_BYTES // 4), ("bob", CARD_BYTES // 2)):
        job = submitted(store, user=user)
        projection = a_projection(upper_bytes)
        assert start_attempt(store, job.id, host_id, [card], RUNG, projection, NOW, shared=True) is not None
    assert usage(store, NOW + 400) == {
        ("default", "ada"): pytest.approx(100, rel=1e-3),
        ("default", "bob"): pytest.approx(200, rel=1e-3),
    }


def test_the_fleet_has_running_jobs_their_progress_and_what_they_held_before(store: Store) -> None:
    host_id, gpu_ids = joined(store, gpus=2)
    job, idle = submitted(store), submitted(store)
    first = opened(store, job, host_id, gpu_ids, NOW)
    gone = because(Code.LOST, "gone")
    end_attempt(store, first.id, 1, an_end(Outcome.LOST), Event.REQUEUED, gone, NOW + 30)
    assert store.fleet_rows().attained == {job.id: pytest.approx(60)}
    second = opened(store, job, host_id, gpu_ids[:1], NOW + 40)
    store.record_report(
        host_id, a_report(news(second, number=2, progress=[a_line(3), a_line(4)]), gpus=2), NOW
    )
    rows = store.fleet_rows()
    assert [row.id for row in rows.running] == [job.id]
    assert (rows.progress[second.id].step, rows.progress[second.id].total_steps) == (4, 10)
    assert rows.attained == {job.id: pytest.approx(60)}
    assert [row.id for row in rows.queued] == [idle.id]
    done = an_end(device_bytes=GiB)
    end_attempt(store, second.id, 2, done, Event.SUCCEEDED, because(), NOW + 50)
    assert store.fleet_rows().attained == {}
