"""Jobs that wait are held, released and changed; and who asked for what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from jobs.errors import Conflict, NotFound
from jobs.jobfile.changes import differences
from jobs.state import Code, JobState
from orchestrator.store import Store
from orchestrator.store.jobs.changes import Change
from orchestrator.store.requests import Actor, Start
from orchestrator.store.rows import JobRow
from tests.builders import NOW, RUNG, a_job, a_projection, a_spec, joined, opened, submitted, training
from tests.store.engine.test_races import at_once

ANNA = Actor("anna", "10.0.0.7")


def a_change(row: JobRow, **values) -> Change:
    spec = {**row.spec, **values}
    return Change(row.name, spec, values.get("priority", row.priority), row.project)


def tried(act: Callable[..., Any], *given: Any) -> Any:
    """What it returns, or the Conflict that it raises."""
    try:
        return act(*given)
    except Conflict as error:
        return error


def a_start(row: JobRow, host_id: int, card: int) -> Start:
    return Start(row.id, host_id, (card,), RUNG, a_projection(), revision=row.revision)


def test_a_held_job_does_not_start_until_it_is_released(store: Store) -> None:
    host_id, (card,) = joined(store)
    row = submitted(store)
    held = store.hold(row.id, NOW + 5, ANNA)
    assert (held.state, held.held_at, held.held_by) == (JobState.QUEUED, NOW + 5, "anna")
    assert (held.reason.code, held.reason.figures) == (Code.HELD, {"by": "anna", "since": NOW + 5})
    assert f"tuneyard release {row.id}" in held.reason.text
    assert store.start_attempts([a_start(held, host_id, card)], NOW + 6) == {}
    assert store.hold(row.id, NOW + 7, Actor("bert")) == held, "who held it first does"
    free = store.release(row.id, NOW + 65, Actor("bert", "10.0.0.8"))
    assert (free.held_at, free.held_by, free.queued_at) == (None, None, NOW + 60)
    assert free.reason.code is Code.NEW
    assert store.start_attempts([a_start(free, host_id, card)], NOW + 66)
    asked = [(event.kind, event.actor, event.address) for event in store.events(row.id)]
    assert asked[1:3] == [("held", "anna", "10.0.0.7"), ("released", "bert", "10.0.0.8")]


def test_only_a_queued_job_is_held_and_only_a_held_one_released(store: Store) -> None:
    attempt = training(store)
    with pytest.raises(
        Conflict, match=rf"job {attempt.job_id} is running; .*tuneyard cancel {attempt.job_id}"
    ):
        store.hold(attempt.job_id, NOW, ANNA)
    gone = submitted(store)
    store.request_cancel(gone.id, NOW)
    with pytest.raises(Conflict, match="has ended"):
        store.hold(gone.id, NOW, ANNA)
    for job_id in (attempt.job_id, gone.id, submitted(store).id):
        with pytest.raises(Conflict, match="is not held"):
            store.release(job_id, NOW, ANNA)
    for act in (store.hold, store.release):
        with pytest.raises(NotFound):
            act(999, NOW, ANNA)
    assert store.actions() == []


def test_a_held_submission_is_held_from_its_first_moment(store: Store) -> None:
    jobs = [replace(a_job(f"job-{n}"), held_by="anna", address="::1") for n in range(3)]
    rows = store.submit([*jobs, a_job("free")], NOW)
    assert [row.reason.code for row in rows] == [Code.HELD] * 3 + [Code.NEW]
    assert [store.job(row.id) for row in rows] == rows
    assert [event.kind for event in store.events(rows[0].id)] == ["submitted", "held"]
    assert [event.address for event in store.events(rows[0].id)] == ["::1", "::1"]
    assert store.request_cancel(rows[0].id, NOW, actor=ANNA).state is JobState.CANCELLED


def test_a_change_counts_and_what_was_planned_before_it_does_not_start(store: Store) -> None:
    host_id, (card,) = joined(store)
    row = submitted(store)
    planned = a_start(row, host_id, card)
    spec = a_spec(training={"sequence_length": 2048}, priority=75)
    change = Change("tuned", spec, 75, "ours", tuple(differences({"priority": 50}, {"priority": 75})))
    changed = store.change_job(row, change, NOW + 1, ANNA)
    assert store.job(row.id) == changed
    assert (changed.name, changed.priority, changed.project, changed.revision) == ("tuned", 75, "ours", 1)
    assert changed.spec == spec
    assert store.start_attempts([planned], NOW + 2) == {}, "it was projected for another job file"
    assert store.start_attempts([a_start(changed, host_id, card)], NOW + 2)
    event = store.events(row.id)[1]
    assert (event.kind, event.text, event.actor) == ("changed", "priority 50 -> 75", "anna")
    assert event.data == {"before": {"priority": 50}, "after": {"priority": 75}}


def test_the_event_of_a_change_tells_key_by_key_what_was_there_and_what_is(store: Store) -> None:
    row = submitted(store)
    old = {"model": {"path": None, "config": {"model_type": "llama", "hidden_size": 32}}, "time_limit": "1h"}
    new = {"model": {"path": "org/other", "config": None}, "time_limit": None}
    change = Change("", row.spec, row.priority, row.project, tuple(differences(old, new)))
    store.change_job(row, change, NOW + 1, ANNA)
    event = store.events(row.id)[1]
    assert event.text == (
        "model.path (not set) -> org/other, model.config.model_type llama -> (removed), "
        "model.config.hidden_size 32 -> (removed), time_limit 1h -> (not set)"
    )
    assert event.data["before"]["model.config.hidden_size"] == 32
    assert "model.config.hidden_size" not in event.data["after"], "what is not there has no value"
    assert event.data["after"]["time_limit"] is None


def test_a_change_of_what_moved_on_changes_nothing(store: Store) -> None:
    row = submitted(store)
    once = store.change_job(row, a_change(row, priority=75), NOW, ANNA)
    with pytest.raises(Conflict, match="moved on"):
        store.change_job(row, a_change(row, priority=10), NOW, ANNA)
    assert store.job(row.id) == once
    host_id, (card,) = joined(store)
    opened(store, store.submit([a_job()], NOW)[0], host_id, [card])
    store.request_cancel(once.id, NOW)
    with pytest.raises(Conflict, match="cancelled now"):
        store.change_job(once, a_change(once, priority=10), NOW, ANNA)
    assert [event.kind for event in store.events(row.id)] == ["submitted", "changed", "cancelled"]


def test_a_group_is_held_and_released_as_far_as_it_can_be(store: Store) -> None:
    host_id, (card,) = joined(store)
    alone = submitted(store)
    first, *rest = store.submit([a_job(group=1) for _ in range(4)], NOW)
    runs, held, gone, free = first, *rest
    opened(store, runs, host_id, [card])
    store.hold(held.id, NOW + 5, Actor("bert"))
    store.request_cancel(gone.id, NOW)
    assert store.hold_group(first.id, NOW + 10, ANNA) == [free.id]
    assert store.job(held.id).held_by == "bert" and store.job(alone.id).held_at is None
    assert store.hold_group(first.id, NOW + 11, ANNA) == []
    assert store.release_group(first.id, NOW + 65, ANNA) == [held.id, free.id]
    assert [store.job(job.id).queued_at for job in (held, free)] == [NOW + 60, NOW + 55]
    assert store.release_group(first.id, NOW + 66, ANNA) == store.release_group(999, NOW, ANNA) == []
    asked = [event.actor for event in store.events(free.id) if event.kind in ("held", "released")]
    assert asked == ["anna", "anna"]


def test_a_hold_keeps_its_reason_through_a_change(store: Store) -> None:
    held = store.hold(submitted(store).id, NOW, ANNA)
    assert store.change_job(held, a_change(held, priority=75), NOW, ANNA).reason.code is Code.HELD


def test_of_a_hold_a_change_and_a_start_at_once_none_is_lost(open_store) -> None:
    stores = [open_store() for _ in range(3)]
    host_id, cards = joined(stores[0], gpus=4)
    for card in cards:
        row = submitted(stores[0])
        held, changed, started = at_once(
            partial(tried, stores[0].hold, row.id, NOW, ANNA),
            partial(tried, stores[1].change_job, row, a_change(row, priority=75), NOW, ANNA),
            partial(stores[2].start_attempts, [a_start(row, host_id, card)], NOW),
        )
        now = stores[0].job(row.id)
        kinds = [event.kind for event in stores[0].events(row.id)]
        assert (now.state is JobState.RUNNING) == bool(started) == ("started" in kinds)
        assert (now.held_at is not None) == ("held" in kinds) == (not isinstance(held, Conflict))
        assert (now.revision == 1) == ("changed" in kinds) == (not isinstance(changed, Conflict))
        assert not (started and now.held_at is not None), "what is held must not run"


def test_who_asked_is_listed_newest_first(store: Store) -> None:
    host_id, _ = joined(store)
    row = submitted(store, name="tune")
    store.set_drained(host_id, True, NOW, ANNA)
    store.set_drained(host_id, True, NOW, ANNA)  # nothing to do
    store.set_project("ours", {"weight": 2.0}, NOW, ANNA)
    store.remove_project("ours", NOW, ANNA)
    store.request_cancel(row.id, NOW, actor=ANNA)
    store.requeue(row.id, NOW, Actor("", "::1"))
    found = store.actions()
    assert [(one.subject, one.event.kind, one.event.actor) for one in found] == [
        (f"job {row.id} (tune)", "copied", ""),
        (f"job {row.id} (tune)", "cancelled", "anna"),
        ("project ours", "project_removed", "anna"),
        ("project ours", "project_set", "anna"),
        ("host alpha", "host_drained", "anna"),
    ]
    older = store.actions(limit=2, before=found[1].event.id)
    assert older == found[2:4]


def test_what_the_scheduler_does_is_nobodys_action(store: Store) -> None:
    attempt = training(store)
    store.request_stop(attempt.id, "preempted", NOW)
    assert store.actions() == []
