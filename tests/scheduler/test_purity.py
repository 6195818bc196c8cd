"""plan() changes nothing that it is given, and says the same when it is asked again."""

from __future__ import annotations

import gc
import random
from copy import deepcopy
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given, settings

from orchestrator.scheduler.cache.scheduler_cache import PlanInput, SchedulerCache
from orchestrator.scheduler.placement.capacity import Capacity
from orchestrator.scheduler.plan import Plan, plan
from orchestrator.scheduler.preemption.nominations import Nominations
from orchestrator.scheduler.preemption.victims import VictimSearch
from orchestrator.scheduler.reservations import Reservations
from tests.scheduler.test_nominations import World
from tests.scheduler.test_safety import NOW, SEEDS, drawn

ROUNDS = 5


def _checked(made_from: PlanInput, reasons: bool) -> Plan:
    """The plan; everything that it was made from compares equal to what it was, however deep."""
    before = deepcopy(made_from)
    decided = plan(made_from, reasons)
    assert made_from.fleet == before.fleet
    assert made_from.queue == before.queue
    assert made_from.capacity == before.capacity
    assert made_from.running == before.running
    assert made_from == before
    assert plan(made_from, reasons) == decided
    return decided


@given(SEEDS)
@settings(max_examples=100, deadline=None)
def test_what_a_plan_is_made_from_stays_as_it_is(seed: int):
    """Queues with gangs, shared cards, checkpoints and cleared cards; guarantees; every policy; moves."""
    rng = random.Random(seed)
    case = drawn(seed, jobs=8)
    cache = SchedulerCache(case.choose)
    world = World(case, case.fleet, rng, quiet=False)
    for _ in range(ROUNDS):
        fleet = world.fleet
        home = rng.choice(fleet.hosts).id
        queue = tuple(
            replace(job, home=home, checkpoint_bytes=10**9) if job.job_id % 3 == 0 else job
            for job in fleet.queue
        )
        movable = {
            job.job_id: replace(fleet.queue[0], job_id=job.job_id) for job in fleet.running if fleet.queue
        }
        world.fleet = fleet = replace(fleet, queue=queue, movable=movable)
        rules = replace(case.rules, move=rng.random() < 0.3)
        cache.observe(fleet)
        decided = _checked(cache.plan_input(fleet, world.now, rules), reasons=True)
        _checked(cache.plan_input(fleet, world.now, rules), reasons=False)
        if not any("for_job" not in reason.figures for reason in decided.stops.values()):
            world.go_on(decided)


@given(SEEDS)
@settings(max_examples=100, deadline=None)
def test_where_there_is_nothing_to_give_at_a_glance_a_plan_starts_and_stops_nobody(seed: int):
    """So a simulation makes none."""
    case = drawn(seed, jobs=8)
    full = replace(case.fleet, projects={}, queue=case.fleet.queue[: seed % 3])
    held = {card.id: card.held_by or 99 for host in full.hosts for card in host.gpus}
    hosts = tuple(
        replace(host, gpus=tuple(replace(card, held_by=held[card.id]) for card in host.gpus))
        for host in full.hosts
    )
    cache, fleet = SchedulerCache(case.choose), replace(full, hosts=hosts)
    cache.observe(fleet)
    if cache.nothing_to_give(fleet, case.rules):
        decided = plan(cache.plan_input(fleet, NOW, case.rules), reasons=False)
        assert not decided.starts and not decided.stops


@pytest.mark.parametrize("reasons", [True, False])
def test_a_plan_leaves_nothing_to_the_garbage_collector(reasons: bool):
    """A cycle a plan cost simulations a sixth of their time, in collections of all that they hold."""
    kinds = (Capacity, Reservations, Nominations, VictimSearch)
    seeds = range(20)
    gc.collect()
    gc.disable()
    try:
        for seed in seeds:
            case = drawn(seed, jobs=8)
            cache = SchedulerCache(case.choose)
            cache.observe(case.fleet)
            plan(cache.plan_input(case.fleet, NOW, case.rules), reasons)
        del cache
        assert not [one for one in gc.get_objects() if type(one) in kinds]
    finally:
        gc.enable()


def test_a_plan_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Plan().starts = {}  # type: ignore[misc]
