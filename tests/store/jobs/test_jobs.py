"""Jobs: submitted, listed, cancelled, requeued, and why they wait."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from jobs.errors import Conflict, NotFound
from jobs.state import Code, Event, JobState, Outcome, Reason
from orchestrator.store import Store
from orchestrator.store.requests import NewSubmission
from orchestrator.store.schema.tables import jobs
from tests.builders import (
    NOW,
    a_job,
    a_line,
    a_report,
    a_spec,
    an_end,
    because,
    end_attempt,
    news,
    submitted,
    training,
)


def kinds(store: Store, job_id: int) -> list[str]:
    return [event.kind for event in store.events(job_id)]


def test_a_submitted_job_is_queued_with_a_reason_and_an_event(store: Store) -> None:
    row = store.submit([a_job("tune", user="ada", spec=a_spec(priority=75), priority=75)], NOW)[0]
    assert store.job(row.id) == row
    assert (row.state, row.reason.code, row.priority) == (JobState.QUEUED, Code.NEW, 75)
    assert (row.user, row.spec["priority"], row.submitted_at) == ("ada", 75, NOW)
    event = store.events(row.id)[0]
    assert (event.kind, event.ts, event.text) == ("submitted", NOW, "submitted by ada")


def test_jobs_submitted_together_keep_their_order(store: Store) -> None:
    rows = store.submit([a_job(f"job-{n}") for n in range(2500)], NOW)
    assert [row.name for row in rows] == [f"job-{n}" for n in range(2500)]
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    assert store.job(rows[1234].id).name == "job-1234"
    assert store.count_jobs() == 2500


def test_a_group_commit_gives_each_client_its_own_jobs(store: Store) -> None:
    wanted = [NewSubmission(jobs) for jobs in ([a_job("a"), a_job("b")], [], [a_job("c")])]
    groups = store.submit_groups(wanted, NOW)
    assert [[row.name for row in group.rows] for group in groups] == [["a", "b"], [], ["c"]]
    assert store.submit_groups([], NOW) == [] and store.submit([], NOW) == []


def test_a_submission_is_all_or_nothing(store: Store) -> None:
    unranked = a_job("bad", priority=None)  # which its column refuses, after the first was inserted
    with pytest.raises(sa.exc.IntegrityError):
        store.submit_groups([NewSubmission([a_job("good")]), NewSubmission([unranked])], NOW)
    assert store.count_jobs() == 0


def test_text_from_outside_may_hold_anything(store: Store) -> None:
    row = store.submit([a_job("näme", user="a\0b", spec={"model": "x\0y", "data": "𝄞"})], NOW)[0]
    stored = store.job(row.id)
    assert (stored.user, stored.spec) == ("a\x1ab", {"model": "x\0y", "data": "𝄞"})


def test_a_job_is_found_by_id_and_its_newest_by_name(store: Store) -> None:
    first, second = store.submit([a_job("twin"), a_job("twin")], NOW)
    digits = submitted(store, name="4711")
    assert store.find_job(str(first.id)) == first
    assert store.find_job("twin") == second
    assert store.find_job("4711") == digits
    for missing in ("nobody", "999", "9" * 40):
        with pytest.raises(NotFound, match=missing):
            store.find_job(missing)
    with pytest.raises(NotFound, match="no job 999"):
        store.job(999)


def test_lists_are_pages_newest_first(store: Store) -> None:
    rows = store.submit([a_job(f"job-{n}") for n in range(5)], NOW)
    store.request_cancel(rows[3].id, NOW)
    assert [row.name for row in store.jobs(limit=2)] == ["job-4", "job-3"]
    assert [row.name for row in store.jobs(limit=2, before=rows[3].id)] == ["job-2", "job-1"]
    assert [row.name for row in store.jobs({JobState.CANCELLED})] == ["job-3"]
    assert len(store.jobs({JobState.QUEUED, JobState.CANCELLED})) == 5
    assert store.jobs(set()) == []
    assert store.count_jobs({JobState.QUEUED}) == 4
    assert store.counts()[JobState.RUNNING] == 0


def test_the_queue_is_by_priority_then_first_come_first_served(store: Store) -> None:
    for name, priority in (("a", 50), ("b", 75), ("c", 50), ("d", 0)):
        submitted(store, name=name, priority=priority)
    assert [row.name for row in store.queued()] == ["b", "a", "c", "d"]
    assert [row.name for row in store.queued(limit=2)] == ["b", "a"]


def test_a_view_shows_the_latest_attempt_and_progress(store: Store) -> None:
    attempt = training(store)
    waiting = submitted(store, name="waits")
    store.record_report(attempt.host_id, a_report(news(attempt, progress=[a_line(1), a_line(2)])), NOW)
    view, other = store.job_view(attempt.job_id), store.job_view(waiting.id)
    assert view.attempt is not None and view.progress is not None
    assert (view.attempt.id, view.attempt.host, view.attempt.gpus[0].name) == (
        attempt.id,
        "alpha",
        "NVIDIA A10G",
    )
    assert (view.progress.step, view.progress.loss) == (2, 1.0)
    assert other.attempt is None and other.progress is None
    assert store.job_views() == [other, view]


def test_a_list_costs_the_same_statements_however_long(store: Store) -> None:
    counts = []
    attempt = training(store)
    for more in (0, 60):
        store.submit([a_job() for _ in range(more)], NOW)
        statements: list[str] = []
        listen = lambda *args, into=statements: into.append(args[2])  # noqa: E731
        sa.event.listen(sa.Engine, "before_cursor_execute", listen)
        assert len(store.job_views(limit=100)) == more + 1
        sa.event.remove(sa.Engine, "before_cursor_execute", listen)
        counts.append(len(statements))
    assert counts[0] == counts[1] and attempt.outcome is None


def test_a_queued_job_is_cancelled_at_once(store: Store) -> None:
    row = store.request_cancel(submitted(store).id, NOW + 5)
    assert (row.state, row.ended_at, row.reason.code) == (JobState.CANCELLED, NOW + 5, Code.CANCELLED)
    assert kinds(store, row.id) == ["submitted", "cancelled"]
    with pytest.raises(Conflict, match="it was cancelled"):
        store.request_cancel(row.id, NOW + 6)
    with pytest.raises(NotFound):
        store.request_cancel(999, NOW)


def test_a_running_job_is_asked_once_to_stop(store: Store) -> None:
    job_id = training(store).job_id
    for now in (NOW + 1, NOW + 2):
        row = store.request_cancel(job_id, now)
        assert (row.state, row.cancel_requested_at) == (JobState.RUNNING, NOW + 1)
    assert kinds(store, job_id) == ["submitted", "started", "cancel_requested"]


def test_requeue_submits_a_copy_and_leaves_the_ended_job(store: Store) -> None:
    attempt = training(store, name="again", priority=75)
    with pytest.raises(Conflict, match="is running"):
        store.requeue(attempt.job_id, NOW)
    end_attempt(store, attempt.id, 1, an_end(Outcome.FAILED), Event.FAILED, because(Code.FAILED), NOW)
    copy = store.requeue(attempt.job_id, NOW + 9)
    assert (copy.name, copy.priority, copy.state) == ("again", 75, JobState.QUEUED)
    assert store.job(copy.id) == copy and copy.spec == store.job(attempt.job_id).spec
    assert store.job(attempt.job_id).state == JobState.FAILED
    assert store.events(attempt.job_id)[-1].data == {"job_id": copy.id}
    assert store.events(copy.id)[0].data["copy_of"] == attempt.job_id
    with pytest.raises(Conflict, match="is queued"):
        store.requeue(copy.id, NOW)


def test_a_job_that_can_never_run_fails_while_queued(store: Store) -> None:
    job = submitted(store)
    fault = Reason(Code.BAD_INPUT, "the model folder has no config.json")
    assert store.fail_queued(job.id, fault, NOW + 1)
    assert not store.fail_queued(job.id, fault, NOW + 2)
    row = store.job(job.id)
    assert (row.state, row.reason, row.ended_at) == (JobState.FAILED, fault, NOW + 1)


def test_many_reasons_are_written_in_pieces(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.store.jobs.jobs.PIECE", 2)
    waiting = [submitted(store).id for _ in range(5)]
    writes, real = [], store.write
    monkeypatch.setattr(store, "write", lambda: (writes.append(1), real())[1])
    busy = Reason(Code.BUSY, "all cards\0are in use", {"free": float("nan")})
    assert store.set_reasons(dict.fromkeys(waiting, busy)) == 5 and len(writes) == 3
    assert store.set_reasons(dict.fromkeys(waiting, busy)) == 0 and len(writes) == 3
    assert {store.job(job_id).reason.code for job_id in waiting} == {Code.BUSY}


def test_reasons_are_written_only_where_they_changed_and_only_to_queued_jobs(store: Store) -> None:
    running = training(store).job_id
    waiting, other = submitted(store), submitted(store)
    busy = Reason(Code.BUSY, "all cards are in use", {"free": 0, "needs_bytes": 20})
    assert store.set_reasons({waiting.id: busy, running: busy}) == 1
    assert store.set_reasons({waiting.id: Reason(Code.BUSY, busy.text, {"needs_bytes": 20, "free": 0})}) == 0
    assert store.set_reasons({waiting.id: Reason(Code.BUSY, busy.text, {"needs_bytes": 21, "free": 0})}) == 1
    assert store.set_reasons({waiting.id: busy}) == 1 and store.set_reasons({}) == 0
    assert store.job(waiting.id).reason == busy
    assert store.job(running).reason.code == Code.STARTING
    assert store.job(other.id).reason.code == Code.NEW


def test_reasons_of_one_text_keep_their_own_figures(store: Store) -> None:
    ids = [submitted(store).id for _ in range(4)]
    given = {id_: Reason(Code.BUSY, "busy", {"free": number // 2}) for number, id_ in enumerate(ids)}
    assert store.set_reasons(given) == 4
    assert [store.job(id_).reason for id_ in ids] == list(given.values())
    given[ids[0]].figures["free"] = 7  # the same object, with another value
    assert store.set_reasons(given) == 1 and store.job(ids[0]).reason.figures == {"free": 7}


def test_a_reason_of_another_version_is_shown_with_its_code(store: Store) -> None:
    made = submitted(store)
    stored = {"reason_code": "awaits_licence", "reason_text": "waits for a licence"}
    with store.write() as connection:
        connection.execute(sa.update(jobs).values(**stored))
    found = store.job(made.id).reason
    assert (found.code, found.text) == ("awaits_licence", "waits for a licence")
    assert found.as_dict()["code"] == "awaits_licence"
