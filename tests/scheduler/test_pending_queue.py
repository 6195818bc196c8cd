"""The queue as it is kept from plan to plan gives what the snapshot alone would; who fails speaks for all alike."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings

from orchestrator.control.snapshot.pending_jobs import PendingJobs
from orchestrator.scheduler import plan as scheduler
from orchestrator.scheduler.cache.pending_queue import PendingQueue, RankContext
from orchestrator.scheduler.cache.scheduler_cache import SchedulerCache
from orchestrator.scheduler.fair_share import CHARGE_S, FairShareQueue, QueueLanes
from orchestrator.scheduler.fleet import PendingJob, Project
from orchestrator.scheduler.policy import Ranked, Rules, rank
from tests.fleets import job_class, waiting
from tests.scheduler.test_nominations import World
from tests.scheduler.test_safety import SEEDS, drawn

NOW = 1_000_000.0
ROUNDS = 12


@given(SEEDS)
@settings(max_examples=200, deadline=None)
def test_a_cache_changes_no_plan(seed: int):
    """Jobs come and go, hosts are drained, projects get other terms, time goes on by up to a day, or back."""
    rng = random.Random(seed)
    case = drawn(seed, jobs=8)
    world, cache = World(case, case.fleet, rng, quiet=False), SchedulerCache(case.choose)
    for _ in range(ROUNDS):
        cache.observe(world.fleet)
        kept = scheduler.plan(cache.plan_input(world.fleet, world.now, case.rules))
        decided = world.decide()
        assert kept == decided
        world.go_on(decided)
        world.now += rng.choice((0.0, 0.0, 299.9, 7_000.0, 90_000.0, -50.0))
        fleet = world.fleet
        if rng.random() < 0.2:
            first = fleet.hosts[0]
            world.fleet = fleet = replace(
                fleet, hosts=(replace(first, drained=not first.drained), *fleet.hosts[1:])
            )
        if rng.random() < 0.1:
            world.fleet = replace(fleet, projects={"x": Project(rng.choice((None, 2, 3)))})


def _ranked(*jobs: PendingJob, rules: Rules, owed: tuple[int, ...] = ()) -> list[Ranked]:
    return [
        rank(job, job_class(job.spec.resources.gpus), rules, NOW, job.job_id in owed, by_project=True)
        for job in jobs
    ]


def _lanes(entries: list[Ranked], rules: Rules) -> QueueLanes:
    lanes = QueueLanes(rules.policy == "fair")
    for entry in entries:
        lanes.add(entry)
    return lanes


def _alike(number: int, waited: float = 0.0, **fields) -> PendingJob:
    return replace(waiting(number), submitted_at=NOW - waited, **fields)


CLASS = job_class()  # one for all, so that they are alike


def _of_one_kind(*jobs: PendingJob, rules: Rules, owed: tuple[int, ...] = ()) -> QueueLanes:
    return _lanes([rank(job, CLASS, rules, NOW, job.job_id in owed, by_project=True) for job in jobs], rules)


def test_who_is_alike_has_no_turn_after_one_that_failed():
    rules = Rules("fifo")
    jobs = [_alike(number, 100 - number, priority=75 if number == 5 else 50) for number in range(1, 6)]
    queue, seen = FairShareQueue(_of_one_kind(*jobs, rules=rules), {}, {}), []
    while (entry := queue.pop()) is not None:
        seen.append(entry.job.job_id)
        if entry.job.job_id == 2:
            queue.fail(entry, entry.score)
    assert seen == [5, 1, 2]


def test_of_those_that_are_alike_one_with_a_lower_score_still_has_its_turn():
    rules = Rules("shortest")
    jobs = [_alike(number, steps_left=100.0 * number) for number in (1, 2, 3)]
    queue, seen = FairShareQueue(_of_one_kind(*jobs, rules=rules), {}, {}), []
    while (entry := queue.pop()) is not None:
        seen.append(entry.score)
        queue.fail(entry, entry.score + 150)
    assert seen == [100, 200]


def test_once_there_is_more_to_be_had_those_that_failed_may_try_again():
    rules = Rules("fifo")
    jobs = [_alike(number, 100 - number) for number in range(1, 5)]
    queue, seen = FairShareQueue(_of_one_kind(*jobs, rules=rules), {}, {}), []
    while (entry := queue.pop()) is not None:
        seen.append(entry.job.job_id)
        if entry.job.job_id == 1:
            queue.fail(entry)
        if len(seen) == 1:
            queue.revive()
    assert seen == [1, 2, 3, 4]


def test_those_that_are_owed_nothing_any_more_have_their_turn_with_the_others():
    rules = Rules("fifo")
    owed = [_alike(number, 100 - number, project="x") for number in (1, 2, 3)]
    others = [_alike(4, 98.5, project="y"), _alike(5, 0, project="y")]
    queue, seen = FairShareQueue(_of_one_kind(*owed, *others, rules=rules, owed=(1, 2, 3)), {}, {}), []
    while (entry := queue.pop()) is not None:
        if entry.owed and entry.job.job_id == 2:  # x has what it is guaranteed
            queue.demote()
            continue
        seen.append((entry.job.job_id, entry.owed))
    assert seen == [(1, True), (4, False), (2, False), (3, False), (5, False)]


@pytest.mark.parametrize("starts", [True, False])
def test_a_start_is_charged_and_a_turn_that_came_to_nothing_is_not(starts: bool):
    """ann used less than bob; her first job is charged an hour if it starts, and bob is next; else she is."""
    rules = Rules()
    jobs = [_alike(1, 9, user="ann"), _alike(2, 8, user="ann"), _alike(3, 7, user="bob")]
    queue, seen = (
        FairShareQueue(_lanes(_ranked(*jobs, rules=rules), rules), {("default", "bob"): CHARGE_S / 2}, {}),
        [],
    )
    while (entry := queue.pop()) is not None:
        seen.append(entry.job.job_id)
        if starts or entry.job.job_id != 1:
            queue.charge(entry)
    assert seen == ([1, 3, 2] if starts else [1, 2, 3])


def test_a_job_that_did_not_change_is_the_same_object():
    jobs = PendingJobs()

    def made(row: str, **figures) -> PendingJob:
        base = jobs.base(1, row, lambda: waiting(1))
        return jobs.whole(base, figures, lambda job: job.length)

    first = made("row", length=512)
    assert first == replace(waiting(1), length=512, shape=512) and first.generation > 0
    assert made("row", length=512) is first
    longer = made("row", length=513)
    assert (longer.length, longer.shape) == (513, 513)
    assert made("another row", length=513).generation > longer.generation > first.generation
    jobs.forget_all_but({2})
    again = made("row", length=512)
    assert again is not first and again == first
    assert again.generation > longer.generation, "never one that another had"


def test_a_job_with_another_generation_is_ranked_anew_and_a_copy_with_the_same_is_not():
    pending, rules = PendingQueue(), Rules("fifo")

    def look(job: PendingJob) -> PendingJob:
        pending.observe([job])
        pending.look(RankContext(NOW, rules, {}, {}, (), lambda job: CLASS, lambda job, own: own))
        entry = pending.entry(job.job_id)
        assert entry is not None
        return entry.job

    first = replace(_alike(1), generation=1)
    assert look(first) is first
    assert look(replace(first)) is first
    urgent = replace(first, priority=75, generation=2)
    assert look(urgent) is urgent
    by_hand = replace(urgent, generation=0)
    assert look(by_hand) is by_hand
    assert look(replace(by_hand)) is by_hand
    assert look(replace(by_hand, priority=25)).priority == 25


def test_a_queue_that_is_looked_at_for_long_does_not_grow():
    """Who has a checkpoint is ranked again in every plan; who leaves takes along all that was kept of it."""
    rules, pending = Rules("fifo"), PendingQueue()
    jobs = [replace(_alike(number), home=1) for number in range(5)]

    def look(at: float, queue: list[PendingJob]) -> None:
        pending.observe(queue)
        pending.look(RankContext(at, rules, {}, {}, (), lambda job: CLASS, lambda job, own: own))

    for second in range(100):
        look(NOW + second, jobs)
    assert len(pending._until) <= 2 * len(jobs)
    assert len(list(pending.lanes)) == len(jobs)
    look(NOW + 100, [])
    assert not list(pending.lanes) and not pending.demand and not pending.inadmissible
    look(NOW + 86_400, [])
    assert not pending._until and not pending._alarms
