"""Cards that several attempts share: never more promised than there is, and never beside an exclusive one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.state import Event
from jobs.units import GiB
from orchestrator.store import Store
from orchestrator.store.rows import AttemptRow, Holder, JobRow
from tests.builders import (
    CARD_BYTES,
    NOW,
    RUNG,
    a_job,
    a_projection,
    an_end,
    because,
    end_attempt,
    joined,
    start_attempt,
    submitted,
)


def start(
    store: Store, job: JobRow, host_id: int, gpu_ids: list[int], upper_bytes: int, shared: bool = True
) -> AttemptRow | None:
    return start_attempt(store, job.id, host_id, gpu_ids, RUNG, a_projection(upper_bytes), NOW, shared=shared)


def test_two_lie_beside_each_other_and_both_are_shown(store: Store) -> None:
    host_id, gpu_ids = joined(store)
    one, other = submitted(store), submitted(store)
    first, second = (start(store, job, host_id, gpu_ids, 10 * GiB) for job in (one, other))
    assert first is not None and second is not None and first.shared and second.shared
    (card,) = store.gpus()
    assert card.holders == (
        Holder(first.id, one.id, False, 10 * GiB),
        Holder(second.id, other.id, False, 10 * GiB),
    )
    assert (card.attempt_id, card.job_id, card.shared) == (first.id, one.id, True)
    end_attempt(store, first.id, 1, an_end(), Event.SUCCEEDED, because(), NOW)
    (card,) = store.gpus()
    assert [holder.job_id for holder in card.holders] == [other.id]


@pytest.mark.parametrize(
    ("shared", "upper_bytes", "starts"),
    [
        (True, CARD_BYTES - 14 * GiB, True),  # to the last byte
        (True, CARD_BYTES - 14 * GiB + 1, False),
        (False, GiB, False),
    ],
)
def test_what_fits_beside_a_shared_lease(store: Store, shared: bool, upper_bytes: int, starts: bool) -> None:
    host_id, gpu_ids = joined(store)
    assert start(store, submitted(store), host_id, gpu_ids, 14 * GiB) is not None
    job = submitted(store)
    assert (start(store, job, host_id, gpu_ids, upper_bytes, shared) is not None) == starts
    if not starts:
        assert store.job(job.id) == job, "what was refused must be as it was"


def test_nothing_lies_beside_an_exclusive_lease(store: Store) -> None:
    host_id, gpu_ids = joined(store)
    first = start(store, submitted(store), host_id, gpu_ids, GiB, shared=False)
    assert first is not None and not first.shared
    assert start(store, submitted(store), host_id, gpu_ids, GiB) is None
    (card,) = store.gpus()
    assert not card.shared and len(card.holders) == 1


def test_a_job_larger_than_the_card_does_not_share_it(store: Store) -> None:
    host_id, gpu_ids = joined(store)
    free = start(store, submitted(store), host_id, gpu_ids, GiB)
    assert free is not None
    assert start(store, submitted(store), host_id, gpu_ids, CARD_BYTES + 1) is None


def test_a_gang_shares_all_of_its_cards_or_none(store: Store) -> None:
    host_id, gpu_ids = joined(store, gpus=2)
    assert start(store, submitted(store), host_id, gpu_ids[1:], 20 * GiB) is not None
    gang = submitted(store)
    assert start(store, gang, host_id, gpu_ids, 8 * GiB) is None
    attempt = start(store, gang, host_id, gpu_ids, 4 * GiB)
    assert attempt is not None and [gpu.exclusive for gpu in attempt.gpus] == [False, False]


@pytest.mark.parametrize("kinds", [(True, True, True, True), (True, False, True, False)])
def test_starts_at_once_never_promise_too_much(
    open_store: Callable[[], Store], kinds: tuple[bool, ...]
) -> None:
    """Each wants 10 of 24 GiB: two that share may win, or one that does not."""
    stores = [open_store() for _ in kinds]
    host_id, gpu_ids = joined(stores[0], gpus=2)
    for _ in range(8):
        jobs = stores[0].submit([a_job() for _ in kinds], NOW)
        barrier = threading.Barrier(len(kinds))

        def begin(
            at: int, jobs: list[JobRow] = jobs, barrier: threading.Barrier = barrier
        ) -> AttemptRow | None:
            barrier.wait()
            cards = gpu_ids[:: 1 if at % 2 else -1]
            return start(stores[at], jobs[at], host_id, cards, 10 * GiB, kinds[at])

        with ThreadPoolExecutor(len(kinds)) as pool:
            won = [attempt for attempt in pool.map(begin, range(len(kinds))) if attempt is not None]
        assert len(won) == (2 if won[0].shared else 1)
        assert len({attempt.shared for attempt in won}) == 1
        for attempt in won:
            end_attempt(stores[0], attempt.id, 1, an_end(), Event.SUCCEEDED, because(), NOW)
        for job in jobs:
            if stores[0].job(job.id).state == "queued":
                stores[0].request_cancel(job.id, NOW)
