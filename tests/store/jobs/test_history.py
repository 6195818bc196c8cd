"""Ended jobs as a simulation wants them."""

from __future__ import annotations

from jobs.state import Code, Event, Outcome
from orchestrator.store import Store
from tests.builders import (
    NOW,
    a_report,
    a_start,
    an_end,
    because,
    end_attempt,
    joined,
    news,
    opened,
    submitted,
)


def ran(store: Store, host_id: int, gpu_ids: list[int], begins: float, ends: float, **values) -> int:
    """A job that trained on these cards and succeeded; its id."""
    job = submitted(store, **values)
    attempt = opened(store, job, host_id, gpu_ids, NOW)
    store.record_report(host_id, a_report(news(attempt, started=a_start(begins)), gpus=2), begins)
    end_attempt(store, attempt.id, 1, an_end(), Event.SUCCEEDED, because(), ends)
    return job.id


def test_what_a_job_held_and_how_long(store: Store) -> None:
    host_id, gpu_ids = joined(store, gpus=2)
    first = ran(store, host_id, gpu_ids, NOW + 5, NOW + 65)
    second = ran(store, host_id, gpu_ids[:1], NOW + 70, NOW + 80, priority=75)
    submitted(store)  # waits still
    assert [past.job_id for past in store.history()] == [first, second]
    one, other = store.history()
    assert (one.submitted_at, one.user, one.project, one.priority) == (NOW, "ada", "default", 50)
    assert (one.seconds, one.gpus, one.card) == (60.0, 2, "NVIDIA A10G")
    assert (other.seconds, other.gpus, other.priority) == (10.0, 1, 75)
    assert [past.job_id for past in store.history(limit=1)] == [second]


def test_all_attempts_count(store: Store) -> None:
    host_id, gpu_ids = joined(store, gpus=2)
    job = submitted(store)
    attempt = opened(store, job, host_id, gpu_ids[:1])
    store.record_report(host_id, a_report(news(attempt, started=a_start(NOW)), gpus=2), NOW)
    failed = an_end(Outcome.LOST)
    end_attempt(store, attempt.id, 1, failed, Event.REQUEUED, because(Code.LOST, "gone"), NOW + 30)
    assert store.history() == []  # it is queued again
    again = opened(store, job, host_id, gpu_ids[:1], NOW + 40)
    store.record_report(host_id, a_report(news(again, started=a_start(NOW + 40)), gpus=2), NOW + 40)
    end_attempt(store, again.id, 2, an_end(), Event.SUCCEEDED, because(), NOW + 50)
    (past,) = store.history()
    assert (past.seconds, past.gpus) == (40.0, 1)


def test_a_job_that_never_began_to_train_is_none(store: Store) -> None:
    host_id, gpu_ids = joined(store, gpus=2)
    attempt = opened(store, submitted(store), host_id, gpu_ids)
    end_attempt(
        store, attempt.id, 1, an_end(Outcome.FAILED), Event.FAILED, because(Code.FAILED, "no"), NOW + 9
    )
    assert store.history() == []
