"""Submissions under a key: made once, however often they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from jobs.errors import UsageError
from jobs.state import Event, Outcome
from orchestrator.store import Store
from orchestrator.store.jobs.submissions import KEPT_S, Taken
from orchestrator.store.requests import NewSubmission, SubmitKey
from tests.builders import NOW, a_job, an_end, because, end_attempt, training
from tests.store.engine.test_races import at_once

KEY = SubmitKey("k1", "digest")
VALUES = [{"training.seed": 1}, {"training.seed": 2}]


def two(key: SubmitKey | None = KEY) -> NewSubmission:
    return NewSubmission([replace(a_job(n), values=v) for n, v in zip("ab", VALUES, strict=True)], key)


def test_the_second_request_is_given_the_jobs_of_the_first(store: Store) -> None:
    assert store.taken(KEY) is None
    (first,) = store.submit_groups([two()], NOW)
    (second,) = store.submit_groups([two()], NOW + 9)
    assert isinstance(first, Taken) and isinstance(second, Taken)
    assert (first.again, second.again) == (False, True)
    assert [row.id for row in second.rows] == [row.id for row in first.rows]
    assert first.values == second.values == VALUES and store.taken(KEY) == second
    assert store.count_jobs() == 2


def test_one_key_twice_in_one_commit_is_one_submission(store: Store) -> None:
    first, other, second = store.submit_groups([two(), two(None), two()], NOW)
    assert isinstance(first, Taken) and isinstance(second, Taken) and isinstance(other, Taken)
    assert first.rows == second.rows and second.again and store.count_jobs() == 4


def test_a_key_of_another_submission_is_refused_and_the_rest_of_the_commit_is_not(store: Store) -> None:
    store.submit_groups([two()], NOW)
    other = SubmitKey("k1", "another digest")
    refused, taken = store.submit_groups([two(other), two(None)], NOW)
    assert isinstance(refused, UsageError) and "use a new key" in str(refused)
    assert isinstance(taken, Taken) and store.count_jobs() == 4
    with pytest.raises(UsageError):
        store.taken(other)


def test_two_servers_that_are_asked_at_the_same_time_store_it_once(open_store: Callable[[], Store]) -> None:
    one, other = open_store(), open_store()
    for n in range(8):
        key = SubmitKey(f"key-{n}", "digest")
        made = at_once(
            partial(one.submit_groups, [two(key), two(None)], NOW),
            partial(other.submit_groups, [two(key)], NOW),
        )
        (first, *_), (second,) = made
        assert [row.id for row in first.rows] == [row.id for row in second.rows]
        assert first.again != second.again
    assert one.count_jobs() == 8 * 4


def test_a_job_is_requeued_once_under_a_key(store: Store) -> None:
    attempt = training(store)
    end_attempt(store, attempt.id, 1, an_end(Outcome.FAILED), Event.FAILED, because(), NOW)
    key = SubmitKey("again", "digest")
    made = [store.requeue(attempt.job_id, NOW, key=key).id for _ in range(3)]
    assert len(set(made)) == 1 and store.count_jobs() == 2


def test_keys_are_forgotten_after_a_week(store: Store) -> None:
    store.submit_groups([two()], NOW)
    assert store.forget_submissions(NOW + KEPT_S) == 0
    assert store.forget_submissions(NOW + KEPT_S + 1) == 1
    assert store.taken(KEY) is None
