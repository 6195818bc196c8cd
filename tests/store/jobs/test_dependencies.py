"""Groups and chains of jobs: what waits, what may start, what never can."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import IntegrityError

from jobs.errors import NotFound
from jobs.state import TERMINAL, Code, Event, JobState, On, Outcome, opens
from orchestrator.store import Store
from orchestrator.store.requests import NewLink, NewSubmission
from orchestrator.store.rows import AttemptRow, JobRow, LinkRow
from tests.builders import (
    NOW,
    RUNG,
    a_job,
    a_projection,
    an_end,
    because,
    end_attempt,
    joined,
    opened,
    start_attempt,
    submitted,
)

ENDS = {Event.SUCCEEDED: Outcome.SUCCEEDED, Event.FAILED: Outcome.FAILED, Event.REQUEUED: Outcome.PREEMPTED}


def waiting_for(store: Store, job: JobRow, on: On = On.SUCCESS) -> JobRow:
    return store.submit([a_job(links=(NewLink(job.id, on),))], NOW)[0]


def end(store: Store, attempt: AttemptRow, event: Event = Event.SUCCEEDED, now: float = NOW) -> None:
    assert end_attempt(store, attempt.id, attempt.number, an_end(ENDS[event]), event, because(), now)


def test_what_each_end_opens() -> None:
    told = {(on, state): opens(on, state) for on in On for state in JobState}
    assert all(told[on, state] is None for on in On for state in set(JobState) - TERMINAL)
    assert all(told[On.ANY, state] for state in TERMINAL)
    assert [told[On.SUCCESS, state] for state in ("succeeded", "failed", "cancelled")] == [True, False, False]
    assert [told[On.FAILURE, state] for state in ("succeeded", "failed", "cancelled")] == [False, True, True]


def test_the_jobs_of_a_group_bear_the_id_of_its_first(store: Store) -> None:
    submitted(store)
    one = [a_job(group=0), a_job(group=0), a_job(), a_job(group=2)]
    first, second = [
        taken.rows
        for taken in store.submit_groups([NewSubmission(one), NewSubmission([a_job(group=0)])], NOW)
    ]
    assert [row.group_id for row in first] == [first[0].id, first[0].id, None, first[3].id]
    assert [row.group_id for row in second] == [second[0].id]
    assert [row.id for row in store.jobs(group=first[0].id)] == [first[1].id, first[0].id]
    assert store.counts(group=first[0].id)[JobState.QUEUED] == store.count_jobs(group=first[0].id) == 2
    assert [view.job for view in store.job_views(group=first[0].id)] == [first[1], first[0]]


def test_jobs_of_a_project_are_found(store: Store) -> None:
    rows = store.submit([a_job(project="ours"), a_job(), a_job(project="ours")], NOW)
    store.request_cancel(rows[0].id, NOW)
    assert [row.id for row in store.jobs(project="ours")] == [rows[2].id, rows[0].id]
    assert [row.id for row in store.jobs({JobState.QUEUED}, project="ours")] == [rows[2].id]
    assert store.count_jobs({JobState.QUEUED}, project="ours") == store.count_jobs(project="default") == 1
    assert store.requeue(rows[0].id, NOW).project == "ours"


def test_links_are_stored_by_id_and_by_place_in_the_submission(store: Store) -> None:
    old = submitted(store)
    new = [a_job(links=(NewLink(old.id, On.ANY), NewLink(1, here=True))), a_job()]
    submitted_together = store.submit_groups([NewSubmission([a_job()]), NewSubmission(new)], NOW)[1].rows
    first, other = submitted_together
    links = [LinkRow(first.id, old.id, On.ANY, JobState.QUEUED)]
    links += [LinkRow(first.id, other.id, On.SUCCESS, JobState.QUEUED)]
    assert store.links([row.id for row in submitted_together]) == {first.id: links}
    assert store.fleet_rows().links == {first.id: links}
    assert list(store.job_view(first.id).links) == links


def test_a_link_is_unmet_until_the_other_has_ended_as_asked(store: Store) -> None:
    host_id, gpu_ids = joined(store)
    job = submitted(store)
    later, any_end = waiting_for(store, job), waiting_for(store, job, On.ANY)
    attempt = opened(store, job, host_id, gpu_ids)
    assert set(store.fleet_rows().links) == {later.id, any_end.id}
    end(store, attempt)
    assert store.fleet_rows().links == {}
    assert store.fail_unmet(NOW) == []
    opened(store, later, host_id, gpu_ids)


@pytest.mark.parametrize("done", [False, True])
def test_a_job_does_not_start_before_what_it_waits_for(store: Store, done: bool) -> None:
    host_id, gpu_ids = joined(store, gpus=2)
    job = submitted(store)
    attempt = opened(store, job, host_id, gpu_ids[:1])
    later = waiting_for(store, job)
    if done:
        end(store, attempt)
    started = start_attempt(store, later.id, host_id, gpu_ids[1:], RUNG, a_projection(), NOW)
    assert (started is not None) == done
    assert store.job(later.id).state == (JobState.RUNNING if done else JobState.QUEUED)


def test_a_chain_that_can_not_go_on_ends_whole(store: Store) -> None:
    first = submitted(store, name="first")
    second = waiting_for(store, first)
    third = waiting_for(store, second)
    tidy = waiting_for(store, third, On.FAILURE)
    aside = waiting_for(store, first, On.ANY)
    store.request_cancel(first.id, NOW)
    assert store.fail_unmet(NOW + 1) == [second.id, third.id]
    row = store.job(second.id)
    assert (row.state, row.reason.code, row.ended_at) == (JobState.FAILED, Code.AFTER, NOW + 1)
    text = f"job {first.id} (first) was cancelled, and this job starts only when that has succeeded"
    assert row.reason.text == text
    assert row.reason.figures == {"after": first.id, "on": "success", "state": "cancelled"}
    assert store.events(third.id)[-1].kind == "failed"
    assert {store.job(job.id).state for job in (tidy, aside)} == {JobState.QUEUED}
    assert store.fleet_rows().links == {}
    assert store.fail_unmet(NOW + 2) == []


def test_a_job_that_runs_is_not_ended_for_a_link(store: Store) -> None:
    host_id, gpu_ids = joined(store)
    job = submitted(store)
    end(store, opened(store, job, host_id, gpu_ids))
    attempt = opened(store, waiting_for(store, job), host_id, gpu_ids)
    assert store.fail_unmet(NOW) == []
    assert store.attempt(attempt.id).outcome is None


def test_a_copy_waits_for_what_can_still_come_and_for_nothing_else(store: Store) -> None:
    gone, going = store.submit([a_job(), a_job()], NOW)
    both = store.submit([a_job(links=(NewLink(gone.id), NewLink(going.id)))], NOW)[0]
    store.request_cancel(gone.id, NOW)
    assert store.fail_unmet(NOW) == [both.id]
    copy = store.requeue(both.id, NOW)
    assert store.fleet_rows().links == {copy.id: [LinkRow(copy.id, going.id, On.SUCCESS, JobState.QUEUED)]}
    assert store.fail_unmet(NOW) == []


def test_a_group_is_cancelled_at_once(store: Store) -> None:
    host_id, gpu_ids = joined(store)
    running, done, queued = store.submit([a_job(group=1) for _ in range(3)], NOW)
    end(store, opened(store, done, host_id, gpu_ids))
    opened(store, running, host_id, gpu_ids)
    assert store.cancel_group(running.id, NOW + 1) == [running.id, queued.id]
    assert store.cancel_group(running.id, NOW + 2) == []
    states = [store.job(job.id).state for job in (running, done, queued)]
    assert states == [JobState.RUNNING, JobState.SUCCEEDED, JobState.CANCELLED]
    assert store.job(running.id).cancel_requested_at == NOW + 1
    with pytest.raises(NotFound, match="no group 999"):
        store.cancel_group(999, NOW)


def test_queued_at_is_when_it_was_queued_last(store: Store) -> None:
    host_id, gpu_ids = joined(store)
    job = submitted(store)
    assert job.queued_at == store.job(job.id).queued_at == NOW
    attempt = opened(store, job, host_id, gpu_ids, NOW + 5)
    end(store, attempt, Event.REQUEUED, NOW + 9)
    row = store.job(job.id)
    assert (row.queued_at, row.submitted_at) == (NOW + 9, NOW)


def test_the_states_of_jobs(store: Store) -> None:
    job = submitted(store)
    assert store.job_states([job.id, 999]) == {job.id: JobState.QUEUED}
    assert store.job_states([]) == {}


def test_a_link_to_a_job_that_is_not_there_stores_nothing(store: Store) -> None:
    with pytest.raises(IntegrityError):
        store.submit([a_job(links=(NewLink(999),))], NOW)
    assert store.count_jobs() == 0
