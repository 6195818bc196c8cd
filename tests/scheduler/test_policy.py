"""Levels, ageing, promotion and shares: figures worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.scheduler.fair_share import CHARGE_S, in_order
from orchestrator.scheduler.fleet import PendingJob, Project
from orchestrator.scheduler.policy import Ranked, Rules, rank
from tests.fleets import job_class, waiting

NOW = 1_000_000.0


def queued(number: int, waited: float = 0.0, **fields) -> PendingJob:
    return replace(waiting(number), submitted_at=NOW - waited, **fields)


def order(
    jobs: list[PendingJob],
    rules: Rules | None = None,
    usage: dict[tuple[str, str], float] | None = None,
    projects: dict[str, Project] | None = None,
) -> list[int]:
    """Numbers of the jobs, first to last."""
    rules = rules or Rules()
    ranked = [rank(job, job_class(), rules, NOW, owed=False) for job in jobs]
    return [entry.job.job_id for entry in in_order(ranked, usage or {}, projects or {}, rules)]


@pytest.mark.parametrize(
    ("attained_gpu_s", "level"),
    [(0, 0), (3599, 0), (3600, 1), (14_399, 1), (14_400, 2), (57_600, 3), (230_400, 4), (3600 * 4**9, 10)],
)
def test_a_level_begins_at_four_times_the_one_before(attained_gpu_s: float, level: int):
    assert Rules().level(attained_gpu_s) == level


@given(st.floats(0, 1e9), st.floats(1, 1e5), st.floats(1.5, 20))
def test_the_next_level_begins_where_it_is_said_to(attained_gpu_s: float, first: float, factor: float):
    rules = Rules(first_level_gpu_s=first, level_factor=factor)
    at = rules.next_level_at(attained_gpu_s)
    assert at >= attained_gpu_s * (1 - 1e-9)
    assert rules.level(at * (1 + 1e-9)) == rules.level(attained_gpu_s) + 1
    assert rules.level(attained_gpu_s) <= rules.level(attained_gpu_s * 2)


def test_a_day_of_waiting_is_worth_a_class_and_no_more_than_the_highest():
    rules = Rules()
    for days, priority in ((0, 25), (0.99, 25), (1, 50), (2, 75), (3, 100), (30, 100)):
        job = queued(1, days * 86_400)
        assert rules.aged(replace(job, priority=25), NOW) == priority
    assert rules.aged(replace(queued(1), submitted_at=NOW + 60), NOW) == 50  # a clock that went back


def test_waiting_counts_from_when_it_was_queued_last():
    rules = Rules()
    job = queued(1, 2 * 86_400, waiting_since=NOW - 60)
    assert rules.aged(job, NOW) == 50
    assert not rules.promoted(job, NOW)


def test_a_guess_of_what_is_left_is_as_much_again_as_it_had():
    rules = Rules()
    assert rules.left_gpu_s(queued(1, attained_gpu_s=5000), 1.0) == 5000
    assert rules.left_gpu_s(queued(1), 1.0) == rules.min_run_s
    assert rules.left_gpu_s(queued(1, steps_left=100), 2.0) == 200


def test_decayed_fair_share():
    """The example of fair-share schedulers since Kay and Lauder 1988: users with usage 0, 1 h and 3 h of one GPU.

    A start is charged an hour. ann (0) goes until she has as much as bob, then they take turns (the longer waiting
    first), until both have as much as cat.
    """
    jobs = [
        queued(number, 100 - number, user=user)
        for number, user in enumerate(["cat", "bob", "bob", "bob", "ann", "ann", "ann", "ann"], 1)
    ]
    usage = {("default", "bob"): CHARGE_S, ("default", "cat"): 3 * CHARGE_S}
    # ann 0 -> 1; bob, who waited longer, 1 -> 2; ann 1 -> 2; bob 2 -> 3, ann 2 -> 3; all have 3: cat waited longest.
    assert order(jobs, usage=usage) == [5, 2, 6, 3, 7, 1, 4, 8]


def test_shares_are_by_weight_and_by_size():
    """x has twice the weight of y; a job of four GPUs is charged as four jobs of one."""
    ones = [queued(number, 100 - number, project="xy"[number % 2]) for number in range(12)]
    first = order(ones, projects={"x": Project(weight=2)})[:9]
    assert sum(number % 2 == 0 for number in first) == 6
    large = replace(
        waiting(50, resources={"gpus": 4}, training={"global_batch": 4}), submitted_at=NOW - 200, project="x"
    )
    small = [queued(number, 100 - number, project="y") for number in range(6)]
    assert order([large, *small]) == [50, 0, 1, 2, 3, 4, 5]
    more = queued(51, 150, project="x")
    assert order([large, more, *small]) == [50, 0, 1, 2, 3, 51, 4, 5]


def test_promotion_is_inside_a_class():
    rules = Rules()
    old = replace(queued(1, rules.promote_after_s), priority=50)
    assert order([replace(queued(2), priority=75), old, queued(3, 60)]) == [2, 1, 3]


@given(st.permutations(range(8)), st.sampled_from(("fair", "fifo", "shortest", "attained")))
def test_the_order_of_the_input_does_not_matter(mixed: list[int], policy):
    jobs = [
        queued(n, 100 * (n % 3), user="ab"[n % 2], project="xyz"[n % 3], attained_gpu_s=4e3 * (n % 2))
        for n in range(8)
    ]
    assert order([jobs[n] for n in mixed], Rules(policy)) == order(jobs, Rules(policy))


def test_what_is_owed_goes_before_the_rest_of_its_class():
    rules = Rules("fifo")
    ranked: list[Ranked] = [
        rank(queued(1, 90), job_class(), rules, NOW, owed=False),
        rank(queued(2), job_class(), rules, NOW, owed=True),
    ]
    assert [entry.job.job_id for entry in in_order(ranked, {}, {}, rules)] == [2, 1]
