"""Several starts under one commit: each is whole or not at all, whatever becomes of the others."""

from __future__ import annotations

from jobs.state import JobState
from orchestrator.store import Store
from orchestrator.store.rows import NewLink, Start
from tests.builders import NOW, RUNG, a_job, a_projection, joined, submitted


def a_start(job_id: int, host_id: int, *gpu_ids: int, shared: bool = False) -> Start:
    return Start(job_id, host_id, gpu_ids, RUNG, a_projection(), shared=shared)


def test_what_moved_is_left_out_and_the_rest_starts(store: Store) -> None:
    host_id, cards = joined(store, gpus=4)
    good, cancelled, taken, gang = store.submit([a_job() for _ in range(4)], NOW)
    waits = store.submit([a_job(links=(NewLink(good.id),))], NOW)[0]
    store.request_cancel(cancelled.id, NOW)
    starts = [
        a_start(gang.id, host_id, cards[3], cards[2]),
        a_start(good.id, host_id, cards[0]),
        a_start(cancelled.id, host_id, cards[1]),
        a_start(taken.id, host_id, cards[0]),
        a_start(waits.id, host_id, cards[1]),
        a_start(999, host_id, cards[1]),
        a_start(good.id, host_id, cards[1]),
    ]
    opened = store.start_attempts(starts, NOW)
    assert set(opened) == {good.id, gang.id}
    attempt = store.attempt(opened[gang.id])
    assert ([gpu.id for gpu in attempt.gpus], attempt.number) == ([cards[3], cards[2]], 1)
    assert [gpu.job_id for gpu in store.gpus()] == [good.id, None, gang.id, gang.id]
    for row in (taken, waits):
        assert store.job(row.id) == row, "what did not start must be as it was"
    assert store.job(good.id).state == JobState.RUNNING
    assert [event.kind for event in store.events(taken.id)] == ["submitted"]


def test_none_is_none(store: Store) -> None:
    host_id, cards = joined(store)
    assert store.start_attempts([], NOW) == {}
    job = submitted(store)
    assert store.start_attempts([a_start(job.id, host_id)], NOW) == {}
    assert store.start_attempts([a_start(job.id, host_id + 1, *cards)], NOW) == {}


def test_those_that_share_see_each_other(store: Store) -> None:
    host_id, cards = joined(store)
    first, second = submitted(store), submitted(store)
    starts = [a_start(job.id, host_id, *cards, shared=True) for job in (second, first)]  # 20 of 24 GiB each
    assert set(store.start_attempts(starts, NOW)) == {first.id}
