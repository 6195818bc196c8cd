"""The host where a queued job's checkpoint lies: what going elsewhere costs, and which cards are worth that. Pure."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import replace

from orchestrator.scheduler.fleet import Waiting
from orchestrator.scheduler.job_class import Kind, Tier
from orchestrator.scheduler.placement.capacity import Stock
from orchestrator.scheduler.policy import Rules, since


def carry_s(job: Waiting, rules: Rules) -> float:
    """Seconds that a job's checkpoint takes to another host, infinity where nobody knows its size."""
    return job.checkpoint_bytes / rules.carry_bytes_s if job.checkpoint_bytes else math.inf


def at_home(
    job: Waiting, kind: Kind, stock: Stock, rules: Rules, now: float, known: dict[Hashable, Kind]
) -> Kind:
    """A job's kind with what it costs to leave its host counted.

    Cards elsewhere that its policy puts before those at home, and on which it ends sooner though its checkpoint has to
    be carried, come before home. All others it takes once it has waited for home as long as leaving costs, and home
    still has no card free. A home that let it down has no such claim. known: what was worked out in this plan.
    """
    if job.home is None or (job.home in job.shaky and job.checkpoint_bytes):
        return kind
    # Where carrying it takes longer than that, all of it may as well be done again.
    leaving_s = min(carry_s(job, rules), job.steps_done * kind.tiers[0].choice.step_s)
    waited = now - since(job) >= leaving_s
    if kind.gang:
        return kind if waited else stock.kind_with(job, kind, job.home) or kind
    local = stock.kind_on(job, kind, job.home)
    if local is None or (waited and not _has_room(local, stock)):
        return kind  # as all that go anywhere have it: what holds for one holds for all of them
    sooner = tuple(place for place, tier in enumerate(kind.tiers) if pays(job, local, tier, rules))
    if not waited and not sooner:
        return local
    same = (job.job_id if job.shape is None else job.shape, job.home, sooner, waited)
    found = known.get(same)
    if found is None:
        found = known[same] = _ordered(kind, local, sooner, waited)
    return found


def pays(job: Waiting, local: Kind, there: Tier, rules: Rules) -> bool:
    """Whether a job had rather go on there than at home: its policy says so, and it ends sooner all the same.

    local: its kind at home.
    """
    here = local.tiers[0]
    if job.steps_left is None or there.key >= here.key:
        return False
    return job.steps_left * (here.choice.step_s - there.choice.step_s) > carry_s(job, rules)


def _has_room(local: Kind, stock: Stock) -> bool:
    return local.shares or any(len(stock.free[place]) >= local.gpus for place in local.shelves)


def _ordered(kind: Kind, local: Kind, sooner: tuple[int, ...], waited: bool) -> Kind:
    """The tiers that are worth leaving home for, home, and the rest once it has waited."""
    first = [kind.tiers[place] for place in sooner]
    rest = [
        replace(tier, shelves=tuple(shelf for shelf in tier.shelves if shelf not in local.shelves))
        for place, tier in enumerate(kind.tiers)
        if waited and place not in sooner
    ]
    tiers = (*first, *local.tiers, *(tier for tier in rest if tier.shelves))
    if waited:
        return replace(kind, tiers=tiers)
    return replace(kind, tiers=tiers, shelves=frozenset(shelf for tier in tiers for shelf in tier.shelves))
