"""The losses of a sweep's jobs, side by side."""

from __future__ import annotations

from jobs.state import Code, Event, JobState, Outcome
from orchestrator.store import Store
from orchestrator.store.rows import MemberLoss
from tests.builders import (
    NOW,
    a_job,
    a_line,
    a_report,
    an_end,
    because,
    end_attempt,
    joined,
    news,
    opened,
    submitted,
)


def test_the_loss_is_the_first_from_the_step_on(store: Store) -> None:
    host_id, gpu_ids = joined(store, gpus=3)
    submitted(store)
    first, short, queued = store.submit([a_job(group=1) for _ in range(3)], NOW)
    one, other = (
        opened(store, job, host_id, [card]) for job, card in zip((first, short), gpu_ids, strict=False)
    )
    nan = float("nan")
    lines = [a_line(2, loss=9.0), a_line(4, loss=nan), a_line(5, loss=1.5), a_line(8, loss=0.5)]
    report = a_report(news(one, progress=lines), news(other, progress=[a_line(3)]), gpus=3)
    store.record_report(host_id, report, NOW)
    running = JobState.RUNNING
    assert store.group_losses(first.id, 4) == [
        MemberLoss(first.id, running, True, 1.5),
        MemberLoss(short.id, running, False, None),
        MemberLoss(queued.id, JobState.QUEUED, False, None),
    ]
    assert not any(member.reached or member.loss for member in store.group_losses(first.id, 9))
    store.record_report(host_id, a_report(news(other, progress=[a_line(6, loss=nan)]), gpus=3), NOW)
    assert store.group_losses(first.id, 4)[1] == MemberLoss(short.id, running, True, None), "it diverged"
    assert store.group_losses(999, 1) == []


def test_a_later_attempt_does_not_change_it(store: Store) -> None:
    host_id, gpu_ids = joined(store)
    (job,) = store.submit([a_job(group=0)], NOW)
    for number, loss in ((1, 2.0), (2, 1.0)):
        attempt = opened(store, job, host_id, gpu_ids)
        store.record_report(host_id, a_report(news(attempt, progress=[a_line(4, loss=loss)])), NOW)
        ended = an_end(Outcome.PREEMPTED)
        end_attempt(
            store, attempt.id, number, ended, Event.REQUEUED, because(Code.PREEMPTED, "made room"), NOW
        )
    assert store.group_losses(job.id, 4) == [MemberLoss(job.id, JobState.QUEUED, True, 2.0)]
