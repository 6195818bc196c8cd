"""Races: several processes' stores on one database, at the same moment. One wins, the others are told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from jobs.state import Code, Event, JobState, Outcome
from orchestrator.store import Store
from tests.builders import (
    NOW,
    RUNG,
    a_host,
    a_job,
    a_line,
    a_projection,
    a_report,
    a_sample,
    a_spec,
    a_start,
    an_end,
    because,
    end_attempt,
    joined,
    news,
    opened,
    start_attempt,
    submitted,
    training,
)

Opener = Callable[[], Store]
ROUNDS = 12
LOST = because(Code.LOST, "host alpha went away")


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """What each act returns, all begun at the same moment, each in its own thread."""
    barrier = threading.Barrier(len(acts))

    def begin(act: Callable[[], Any]) -> Any:
        barrier.wait()
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(begin, acts))


@pytest.fixture
def two(open_store: Opener) -> tuple[Store, Store]:
    """Two servers on one database."""
    return open_store(), open_store()


def test_two_starts_for_one_card(two: tuple[Store, Store]) -> None:
    host_id, gpu_ids = joined(two[0])
    for _ in range(ROUNDS):
        jobs = two[0].submit([a_job(), a_job()], NOW)
        won = at_once(
            *(
                partial(start_attempt, store, job.id, host_id, gpu_ids, RUNG, a_projection(), NOW)
                for store, job in zip(two, jobs, strict=True)
            )
        )
        (attempt,) = [attempt for attempt in won if attempt is not None]
        (loser,) = [job for job in jobs if job.id != attempt.job_id]
        assert two[0].job(loser.id) == loser, "the loser must be as it was"
        end_attempt(two[0], attempt.id, 1, an_end(), Event.SUCCEEDED, because(), NOW)


def test_two_starts_of_one_job(two: tuple[Store, Store]) -> None:
    host_id, gpu_ids = joined(two[0], gpus=2)
    for _ in range(ROUNDS):
        job = submitted(two[0])
        won = at_once(
            *(
                partial(start_attempt, store, job.id, host_id, [card], RUNG, a_projection(), NOW)
                for store, card in zip(two, gpu_ids, strict=True)
            )
        )
        (attempt,) = [attempt for attempt in won if attempt is not None]
        assert [row.id for row in two[1].attempts(job.id)] == [attempt.id]
        end_attempt(two[1], attempt.id, 1, an_end(), Event.SUCCEEDED, because(), NOW)


def test_two_gangs_that_want_the_same_cards_in_another_order(two: tuple[Store, Store]) -> None:
    host_id, gpu_ids = joined(two[0], gpus=4)
    for _ in range(ROUNDS):
        jobs = two[0].submit([a_job(), a_job()], NOW)
        won = at_once(
            partial(start_attempt, two[0], jobs[0].id, host_id, gpu_ids, RUNG, a_projection(), NOW),
            partial(start_attempt, two[1], jobs[1].id, host_id, gpu_ids[::-1], RUNG, a_projection(), NOW),
        )
        (attempt,) = [attempt for attempt in won if attempt is not None]
        assert len(attempt.gpus) == 4
        end_attempt(two[0], attempt.id, 1, an_end(), Event.SUCCEEDED, because(), NOW)


def test_cancel_against_start(two: tuple[Store, Store]) -> None:
    host_id, gpu_ids = joined(two[0], gpus=ROUNDS)
    for card in gpu_ids:
        job = submitted(two[0])
        row, attempt = at_once(
            partial(two[0].request_cancel, job.id, NOW),
            partial(start_attempt, two[1], job.id, host_id, [card], RUNG, a_projection(), NOW),
        )
        after = two[0].job(job.id)
        assert after.cancel_requested_at == NOW, "an acknowledged cancel must not be lost"
        assert after.state == (JobState.CANCELLED if attempt is None else JobState.RUNNING)
        assert row.state == after.state


def test_cancel_against_requeue(two: tuple[Store, Store]) -> None:
    host_id, gpu_ids = joined(two[0])
    for _ in range(ROUNDS):
        attempt = opened(two[0], submitted(two[0]), host_id, gpu_ids)

        row, requeued = at_once(
            partial(two[0].request_cancel, attempt.job_id, NOW),  # neither a running nor a queued job refuses
            partial(end_attempt, two[1], attempt.id, 1, an_end(Outcome.LOST), Event.REQUEUED, LOST, NOW),
        )
        after = two[0].job(attempt.job_id)
        assert after.cancel_requested_at == NOW == row.cancel_requested_at
        assert after.state == (JobState.CANCELLED if requeued else JobState.RUNNING)
        if not requeued:
            gone = because(Code.CANCELLED, "cancelled")
            assert end_attempt(two[1], attempt.id, 1, an_end(Outcome.CANCELLED), Event.CANCELLED, gone, NOW)


def test_two_ends_of_one_attempt(two: tuple[Store, Store]) -> None:
    host_id, gpu_ids = joined(two[0])
    for _ in range(ROUNDS):
        attempt = opened(two[0], submitted(two[0]), host_id, gpu_ids)
        done = at_once(
            partial(end_attempt, two[0], attempt.id, 1, an_end(), Event.SUCCEEDED, because(), NOW),
            partial(end_attempt, two[1], attempt.id, 1, an_end(Outcome.LOST), Event.FAILED, LOST, NOW),
        )
        assert sorted(done) == [False, True]
        assert two[0].job(attempt.job_id).state == (JobState.SUCCEEDED if done[0] else JobState.FAILED)


def test_the_same_report_twice_at_once(two: tuple[Store, Store]) -> None:
    attempt = training(two[0])
    written = ""
    for step in range(1, ROUNDS + 1):
        piece = f"step {step}\n"
        report = a_report(
            news(attempt, started=a_start(), progress=[a_line(step)], log=piece, log_offset=len(written)),
            samples=[a_sample(ts=NOW + step)],
        )
        at_once(*(partial(store.record_report, attempt.host_id, report, NOW) for store in two))
        written += piece
    assert two[0].logs(attempt.id).text == written
    assert len(two[0].progress(attempt.id)) == ROUNDS
    assert len(two[0].samples(attempt.gpus[0].id, NOW, NOW + 99)) == ROUNDS
    assert [event.kind for event in two[0].events(attempt.job_id)].count("training") == 1


def test_a_report_against_the_end_of_its_attempt(two: tuple[Store, Store]) -> None:
    host_id, gpu_ids = joined(two[0])
    for _ in range(ROUNDS):
        attempt = opened(two[0], submitted(two[0]), host_id, gpu_ids)
        report = a_report(news(attempt, started=a_start(), log="hello\n", ended=an_end()))
        at_once(
            partial(two[0].record_report, host_id, report, NOW),
            partial(end_attempt, two[1], attempt.id, 1, an_end(Outcome.LOST), Event.FAILED, LOST, NOW),
        )
        row = two[0].attempt(attempt.id)
        assert row.outcome == Outcome.LOST and two[0].logs(attempt.id).text == "hello\n"
        assert two[0].job(attempt.job_id).reason.code == Code.LOST


def test_stop_against_a_report_of_the_start(two: tuple[Store, Store]) -> None:
    host_id, gpu_ids = joined(two[0], gpus=ROUNDS)
    for card in gpu_ids:
        attempt = opened(two[0], submitted(two[0]), host_id, [card])
        report = a_report(news(attempt, started=a_start()), gpus=ROUNDS)
        at_once(
            partial(two[0].record_report, host_id, report, NOW),
            partial(two[1].request_stop, attempt.id, "timeout", NOW),
        )
        row = two[0].attempt(attempt.id)
        assert row.started_at is not None and row.stop_reason == "timeout"
        assert two[0].job(attempt.job_id).reason.code == Code.STOPPING


def test_one_host_joins_twice_at_once(two: tuple[Store, Store]) -> None:
    ids = at_once(*(partial(store.join_host, a_host(gpus=8), NOW) for store in two))
    assert ids[0] == ids[1] and len(two[0].gpus()) == 8


def test_a_profile_goes_to_one_host(two: tuple[Store, Store]) -> None:
    hosts = [joined(two[0], name)[0] for name in ("alpha", "beta")]
    for key in (f"sha-{n}" for n in range(ROUNDS)):
        at_once(*(partial(store.want_profile, key, a_spec(), NOW) for store in two))
        given = at_once(
            *(partial(store.assign_profile, key, host, NOW) for store, host in zip(two, hosts, strict=True))
        )
        assert sorted(given) == [False, True]


def test_many_clients_submit_at_once(open_store: Opener) -> None:
    store = open_store()
    rows = [row for (row,) in at_once(*(partial(store.submit, [a_job(f"job-{n}")], NOW) for n in range(24)))]
    assert len({row.id for row in rows}) == store.count_jobs() == 24
    assert all(store.job(row.id).name == f"job-{n}" for n, row in enumerate(rows))
