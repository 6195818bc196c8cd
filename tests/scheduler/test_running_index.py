"""A plan with what a simulation keeps from plan to plan is the plan that the snapshot alone would give."""

from __future__ import annotations

import math

import pytest

from orchestrator.scheduler.cache.running_index import PlanView, RunningIndex
from orchestrator.scheduler.cache.scheduler_cache import PlanInput
from orchestrator.scheduler.fleet import Project, RunningJob
from orchestrator.scheduler.plan import Plan
from orchestrator.scheduler.policy import DISCIPLINES, Rules
from orchestrator.simulate.engine import Known, choose, simulate
from orchestrator.simulate.fleet_file import read_fleet
from orchestrator.simulate.generate import Wish, generate
from orchestrator.simulate.trace import TraceJob
from tests.fleets import plan

SHORT = {"longest_s": 20_000.0, "median_s": 600.0, "mean_s": 3000.0}
TERMS = {"a": Project(12), "b": Project(8, borrows=False), "c": Project(None)}


class FromNothing:
    """Plans each snapshot again from nothing, and compares."""

    def __init__(self, rules: Rules) -> None:
        self.rules, self.plans, self.stops, self.reserved = rules, 0, 0, 0

    def __call__(self, given: PlanInput, decided: Plan) -> None:
        again = plan(given.fleet, given.now, choose, self.rules, reasons=False)
        assert {job: [gpu.id for gpu in where.gpus] for job, where in decided.starts.items()} == {
            job: [gpu.id for gpu in where.gpus] for job, where in again.starts.items()
        }
        assert decided.stops == again.stops
        assert decided.reserved == again.reserved
        self.plans += 1
        self.stops += len(decided.stops)
        self.reserved += len(decided.reserved)


def trace(seed: int, load: float = 1.6) -> list[TraceJob]:
    """Jobs of three projects and three priorities, a tenth of them larger than a host."""
    made = generate(Wish(jobs=120, load=load, seed=seed, users=6, **SHORT), 32, {})
    return [
        TraceJob(
            *(job.job_id, job.submit_s, job.duration_s, 12 if number % 11 == 0 else min(job.gpus, 8)),
            user=job.user,
            project="abc"[number % 3],
            priority=(50, 50, 25, 50, 75)[number % 5],
        )
        for number, job in enumerate(made)
    ]


@pytest.mark.parametrize("policy", DISCIPLINES)
@pytest.mark.parametrize("terms", [{}, TERMS], ids=["alone", "guarantees"])
@pytest.mark.parametrize("known", ["soon", "never", "told"])
def test_what_is_kept_changes_no_plan(policy, terms, known: Known):
    rules = Rules(policy, promote_after_s=7000.0, age_class_s=20_000.0, first_level_gpu_s=900.0)
    fleet = read_fleet("hosts: [{count: 4, gpus: 8, card: a100}]", "test")
    seen = FromNothing(rules)
    simulate(trace(seed=3), fleet.hosts, rules, terms, known=known, watch=seen)
    assert seen.plans > 100
    assert seen.stops > 8 or policy in ("fair", "fifo")
    assert seen.stops + seen.reserved > 0


def test_the_strict_are_served_in_the_same_order():
    rules = Rules("fifo", preempt=False, passing=False, reserve=0)
    fleet = read_fleet("hosts: [{count: 4, gpus: 8, card: a100}]", "test")
    seen = FromNothing(rules)
    simulate(trace(seed=5), fleet.hosts, rules, watch=seen)
    assert seen.plans > 100


def _indexed(*jobs: RunningJob) -> RunningIndex:
    """One card group of four cards, two of them free."""
    return RunningIndex.of(jobs, [((), ())], [4], lambda gpu_ids: ((0, len(gpu_ids)),))


def _running(number: int, *gpu_ids: int) -> RunningJob:
    return RunningJob(number, number, 1, gpu_ids, 50, 0.0, 0.0)


def test_a_bar_is_the_least_of_the_limits_that_make_up_the_cards():
    index = _indexed(_running(1, 1), _running(2, 2))
    look = PlanView(10.0, index, lambda job: ({1: 5.0, 2: 3.0}[job.job_id], math.inf))
    thresholds = index.thresholds_of("any")
    assert [bool(thresholds.candidates(count, [0], 4.0, look, ())) for count in (1, 2, 3, 4)] == [
        True,
        True,
        True,
        False,
    ]
    assert [bool(thresholds.candidates(count, [0], 2.0, look, ())) for count in (3, 4, 5)] == [
        True,
        True,
        False,
    ]
    assert thresholds.candidates(None, [0], 3.0, look, ()) == []


def test_a_bar_is_looked_at_again_where_a_job_ended_and_once_it_may_have_risen():
    index = _indexed(_running(1, 1), _running(2, 2))
    thresholds = index.thresholds_of("any")
    assert thresholds.candidates(4, [0], 1.0, PlanView(10.0, index, lambda job: (0.0, 20.0)), ()) == []
    high = PlanView(15.0, index, lambda job: (9.0, math.inf))
    assert thresholds.candidates(4, [0], 1.0, high, ()) == []
    assert thresholds.candidates(4, [0], 1.0, PlanView(20.0, index, high.limit), ()) == [0]
    index.ended(_running(2, 2))
    assert thresholds.candidates(4, [0], 1.0, PlanView(21.0, index, high.limit), ()) == []
