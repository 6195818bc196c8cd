"""Attempts: opened with their leases, stopped, ended with what was measured."""

from __future__ import annotations

import pytest

from jobs.errors import Conflict, NotFound
from jobs.state import Code, Event, JobState, Outcome
from jobs.units import GiB
from orchestrator.store import Store
from orchestrator.store.attempts.attempts import Closing
from tests.builders import (
    NOW,
    RUNG,
    a_line,
    a_projection,
    a_report,
    an_end,
    because,
    cards,
    end_attempt,
    joined,
    news,
    opened,
    start_attempt,
    submitted,
    training,
)

LOST = because(Code.LOST, "host alpha went away")


def test_a_start_opens_an_attempt_and_leases_its_cards(store: Store) -> None:
    host_id, gpu_ids = joined(store, gpus=3)
    job = submitted(store)
    attempt = start_attempt(store, job.id, host_id, [gpu_ids[2], gpu_ids[0]], RUNG, a_projection(), NOW + 1)
    assert attempt is not None and store.attempt(attempt.id) == attempt
    assert (attempt.number, attempt.host, attempt.opened_at) == (1, "alpha", NOW + 1)
    assert [gpu.index for gpu in attempt.gpus] == [2, 0]  # in rank order
    assert (attempt.rung, attempt.projection) == (RUNG, a_projection())
    row = store.job(job.id)
    assert (row.state, row.started_at) == (JobState.RUNNING, NOW + 1)
    assert (row.reason.code, row.reason.text) == (Code.STARTING, "starting on alpha")
    holders = {gpu.index: (gpu.job_id, gpu.attempt_id) for gpu in store.gpus()}
    assert holders == {0: (job.id, attempt.id), 1: (None, None), 2: (job.id, attempt.id)}
    assert store.open_attempts() == store.attempts(job.id) == [attempt]
    assert [one.attempt_id for one in store.open_on([host_id, 99])[host_id].offsets] == [attempt.id]


def test_a_start_is_refused_whole_when_anything_moved(store: Store) -> None:
    attempt = training(store)
    beta, gpu_ids = joined(store, "beta", gpus=2)
    job = submitted(store)
    taken = [gpu.id for gpu in attempt.gpus]
    refused = [
        (attempt.job_id, beta, gpu_ids[:1]),  # not queued
        (999, beta, gpu_ids[:1]),  # no such job
        (job.id, attempt.host_id, taken),  # the card is taken
        (job.id, beta, taken),  # the card is another host's
        (job.id, beta, [gpu_ids[0], 999]),  # no such card
        (job.id, beta, []),
    ]
    for job_id, host_id, wanted in refused:
        assert start_attempt(store, job_id, host_id, wanted, RUNG, a_projection(), NOW) is None
    assert store.job(job.id) == job and len(store.open_attempts()) == 1
    assert opened(store, job, beta, gpu_ids).number == 1


def test_a_gang_that_gets_only_some_of_its_cards_gets_none(store: Store) -> None:
    host_id, gpu_ids = joined(store, gpus=2)
    opened(store, submitted(store), host_id, gpu_ids[1:])
    gang = submitted(store)
    assert start_attempt(store, gang.id, host_id, gpu_ids, RUNG, a_projection(), NOW) is None
    assert store.gpus()[0].attempt_id is None and store.job(gang.id).state == JobState.QUEUED


def test_no_start_on_a_drained_host_or_a_faulty_or_absent_card(store: Store) -> None:
    host_id, gpu_ids = joined(store, gpus=2)
    job = submitted(store)
    ill = cards(count=1)[0].model_copy(update={"fault": "Xid 79: fell off the bus"})
    store.record_report(host_id, a_report().model_copy(update={"gpus": [ill]}), NOW)
    for gpu_id in gpu_ids:
        assert start_attempt(store, job.id, host_id, [gpu_id], RUNG, a_projection(), NOW) is None
    store.record_report(host_id, a_report(gpus=2), NOW)
    store.set_drained(host_id, True, NOW)
    assert start_attempt(store, job.id, host_id, gpu_ids, RUNG, a_projection(), NOW) is None
    store.set_drained(host_id, False, NOW)
    assert start_attempt(store, job.id, host_id, gpu_ids, RUNG, a_projection(), NOW) is not None


def test_an_end_closes_the_attempt_frees_its_cards_and_moves_the_job(store: Store) -> None:
    attempt = training(store)
    ended = an_end(
        steps=10, result="/srv/job-1", last_checkpoint="step-10", first_loss=2.0, device_bytes=19 * GiB
    )
    assert end_attempt(store, attempt.id, 1, ended, Event.SUCCEEDED, because(), NOW + 61)
    closed = store.attempt(attempt.id)
    assert (closed.outcome, closed.ended_at, closed.steps) == (Outcome.SUCCEEDED, NOW + 61, 10)
    assert (closed.result, closed.last_checkpoint) == ("/srv/job-1", "step-10")
    assert closed.measured == {"first_loss": 2.0, "device_bytes": 19 * GiB}
    row = store.job(attempt.job_id)
    assert (row.state, row.reason, row.ended_at) == (JobState.SUCCEEDED, because(), NOW + 61)
    assert store.gpus()[0].attempt_id is None and store.open_attempts() == []
    last = store.events(row.id)[-1]
    assert (last.kind, last.attempt, last.data["outcome"]) == ("succeeded", 1, "succeeded")


def test_a_second_end_changes_nothing(store: Store) -> None:
    attempt = training(store)
    assert end_attempt(store, attempt.id, 1, an_end(), Event.SUCCEEDED, because(), NOW + 1)
    assert not end_attempt(store, attempt.id, 1, an_end(Outcome.LOST), Event.FAILED, LOST, NOW + 2)
    assert store.job(attempt.job_id).state == JobState.SUCCEEDED
    assert store.attempt(attempt.id).outcome == Outcome.SUCCEEDED


def test_an_end_with_another_number_changes_nothing(store: Store) -> None:
    attempt = training(store)
    for number in (0, 2):
        assert not end_attempt(store, attempt.id, number, an_end(), Event.SUCCEEDED, because(), NOW)
    assert not end_attempt(store, 999, 1, an_end(), Event.SUCCEEDED, because(), NOW)
    assert store.attempt(attempt.id) == attempt


def test_an_illegal_move_is_refused_whole(store: Store) -> None:
    attempt = training(store)
    with pytest.raises(Conflict, match="running job can't be started"):
        end_attempt(store, attempt.id, 1, an_end(), Event.STARTED, because(), NOW)
    assert store.attempt(attempt.id) == attempt


def test_a_requeued_job_waits_and_tries_again_under_a_new_number(store: Store) -> None:
    first = training(store)
    assert end_attempt(
        store, first.id, 1, an_end(Outcome.LOST), Event.REQUEUED, LOST, NOW + 5, not_before=NOW + 35
    )
    row = store.job(first.job_id)
    assert (row.state, row.not_before, row.ended_at, row.reason) == (JobState.QUEUED, NOW + 35, None, LOST)
    second = opened(store, row, first.host_id, [first.gpus[0].id], NOW + 40)
    row = store.job(first.job_id)
    assert (second.number, row.not_before, row.started_at) == (2, None, NOW)
    assert [attempt.outcome for attempt in store.attempts(row.id)] == [Outcome.LOST, None]
    view = store.job_view(row.id)
    assert view.attempt is not None and view.attempt.id == second.id


def test_a_cancel_that_comes_before_a_requeue_wins(store: Store) -> None:
    attempt = training(store)
    store.request_cancel(attempt.job_id, NOW + 1)
    assert not end_attempt(store, attempt.id, 1, an_end(Outcome.LOST), Event.REQUEUED, LOST, NOW + 2)
    gone = because(Code.CANCELLED, "cancelled")
    assert end_attempt(store, attempt.id, 1, an_end(Outcome.LOST), Event.CANCELLED, gone, NOW + 3)
    assert store.job(attempt.job_id).state == JobState.CANCELLED


def test_an_attempt_is_handed_over_and_asked_to_stop_once(store: Store) -> None:
    attempt = training(store)
    assert store.mark_dispatched([attempt.id, 999], NOW + 1) == {attempt.id}
    assert store.mark_dispatched([attempt.id], NOW + 2) == store.mark_dispatched([], NOW + 2) == set()
    assert store.request_stop(attempt.id, "cancelled", NOW + 3)
    assert not store.request_stop(attempt.id, "timeout", NOW + 4)
    row = store.attempt(attempt.id)
    assert (row.dispatched_at, row.stop_requested_at, row.stop_reason) == (NOW + 1, NOW + 3, "cancelled")
    assert store.job(attempt.job_id).reason.code == Code.STOPPING
    kinds = [event.kind for event in store.events(attempt.job_id)]
    assert kinds == ["submitted", "started", "dispatched", "stop_requested"]


def test_a_closed_attempt_is_neither_handed_over_nor_stopped(store: Store) -> None:
    attempt = training(store)
    end_attempt(store, attempt.id, 1, an_end(), Event.SUCCEEDED, because(), NOW)
    assert not store.mark_dispatched([attempt.id], NOW) and not store.request_stop(attempt.id, "timeout", NOW)
    assert store.job(attempt.job_id).reason == because()
    with pytest.raises(NotFound, match="no attempt 999"):
        store.attempt(999)


def test_offsets_are_those_of_the_host_s_open_attempts(store: Store) -> None:
    attempt = training(store)
    store.record_report(attempt.host_id, a_report(news(attempt, log="né", progress=[a_line(7)])), NOW)
    (offset,) = store.open_on([attempt.host_id])[attempt.host_id].offsets
    assert (offset.attempt_id, offset.job_id, offset.number) == (attempt.id, attempt.job_id, 1)
    assert (offset.log_offset, offset.step) == (3, 7)
    assert store.closed({attempt.id, 999}) == {999} and store.closed(set()) == set()
    end_attempt(store, attempt.id, 1, an_end(), Event.SUCCEEDED, because(), NOW)
    assert store.open_on([attempt.host_id])[attempt.host_id].offsets == [] and store.closed([attempt.id]) == {
        attempt.id
    }


def test_ends_of_a_round_are_each_by_itself_under_one_commit(store: Store) -> None:
    host_id, four = joined(store, gpus=4)
    tries = [
        start_attempt(store, submitted(store).id, host_id, [card], RUNG, a_projection(), NOW) for card in four
    ]
    one, moved, cancelled, last = (attempt for attempt in tries if attempt is not None)
    store.request_cancel(cancelled.job_id, NOW + 1)
    ends = [
        Closing(last.id, 1, an_end(), Event.SUCCEEDED, because()),
        Closing(moved.id, 2, an_end(), Event.SUCCEEDED, because()),
        Closing(cancelled.id, 1, an_end(outcome=Outcome.LOST), Event.REQUEUED, because()),
        Closing(one.id, 1, an_end(outcome=Outcome.LOST), Event.REQUEUED, because(), NOW + 60),
    ]
    assert store.end_attempts(ends, NOW + 2) == {one.id, last.id}
    states = [store.job(attempt.job_id).state for attempt in (one, moved, cancelled, last)]
    assert states == ["queued", "running", "running", "succeeded"]
    assert store.job(one.job_id).not_before == NOW + 60
    assert {gpu.attempt_id for gpu in store.gpus()} == {None, moved.id, cancelled.id}
    assert store.end_attempts(ends, NOW + 3) == set() and store.end_attempts([], NOW) == set()
