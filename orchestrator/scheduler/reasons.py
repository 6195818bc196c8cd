"""Why a job waits that some card would take, in words and figures. No clock in a text: it is stored when it changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from jobs.state import Code, Reason
from jobs.units import counted, listed_jobs, span
from orchestrator.scheduler.feasibility import Option, busy, coming_up
from orchestrator.scheduler.fleet import PendingJob, Project, RunningJob
from orchestrator.scheduler.job_class import JobClass
from orchestrator.scheduler.placement.capacity import Capacity
from orchestrator.scheduler.policy import Rules, since
from orchestrator.scheduler.preemption.nominations import Nominations
from orchestrator.scheduler.preemption.victims import Preemption
from orchestrator.scheduler.reservations import Reservations

# By card group and job, free cards that were cleared for it in this plan, and until when.
Cleared = dict[int, dict[int, tuple[int, float | None]]]


def preempting(preemption: Preemption, awaited: Sequence[RunningJob]) -> Reason:
    """Others are being stopped for it. awaited: those that were asked before."""
    who = sorted(job.job_id for job in preemption.stops)
    figures: dict[str, Any] = {"stops": who} if who else {}
    said = [f"{listed_jobs(who)} {'are' if len(who) > 1 else 'is'} being stopped for it"] if who else []
    if awaited:
        asked = [job.asked_at for job in awaited if job.asked_at is not None]
        figures |= {"awaits": [job.job_id for job in awaited], "asked_at": min(asked, default=None)}
        has = "have" if len(awaited) > 1 else "has"
        said.append(f"waits until {listed_jobs(figures['awaits'])} {has} saved and stopped")
    return Reason(Code.ROOM, "; ".join(said) or "cards that come back are kept for it", figures)


def quota(job: PendingJob, terms: Project, runs: int, held: int) -> Reason:
    """Its project may have no more. runs: GPUs that it has; held: with those that it was promised in this plan."""
    has = f"holds {runs}" + (f" and was just promised {held - runs} more" if held > runs else "")
    text = f"project {job.project} {has} of its {counted(terms.guarantee or 0, 'GPU')} and may not borrow"
    figures = {"held": runs, "guarantee": terms.guarantee, "gpus": job.spec.resources.gpus}
    return Reason(Code.QUOTA, text, figures | ({"promised": held - runs} if held > runs else {}))


def crowded(job: PendingJob, job_class: JobClass, capacity: Capacity) -> Reason:
    """Which cards would do, and who has them."""
    groups = capacity.layout.groups
    options = [
        Option(groups[where].host, groups[where].gpus, tier.choice)
        for tier in job_class.tiers
        for where in tier.groups
    ]
    ready = [option for option in options if option.host.ray_ready]
    if not ready:
        return coming_up(options)
    free = frozenset(gpu.id for gpus in capacity.free for gpu in gpus)
    found = busy(job.spec, ready, free)
    if job_class.gang:
        return found
    return Reason(found.code, f"{ready[0].host.name}: {found.text}", found.figures)


def reserved(
    found: Reason,
    job_class: JobClass,
    capacity: Capacity,
    reservations: Reservations,
    nominations: Nominations,
    cleared: Cleared,
) -> Reason:
    """What is said where free cards would do that are kept for another job; `found` where there are none.

    In the figures that job, and when it begins at the latest, None where nobody knows.
    """
    for tier in job_class.tiers if reservations.by_group or nominations or cleared else ():
        for group in tier.groups:
            free, held = len(capacity.free[group]), reservations.by_group.get(group)
            keepers = [(held.job_id, 0, coarse(held.at, reservations.now))] if held is not None else []
            keepers += [(job_id, *cards) for job_id, cards in cleared.get(group, {}).items()]
            keepers += [(job_id, count, None) for job_id, count in nominations.free_on(group)]
            for job_id, count, until in keepers:
                if free + count >= job_class.gpus:
                    cards = capacity.layout.groups[group]
                    text = (
                        f"{cards.host.name}: fits {cards.gpus[0].label} and up; reservation of job {job_id}"
                    )
                    return Reason(Code.RESERVED, text, {**found.figures, "job": job_id, "until": until})
    return found


def with_reservation(found: Reason, at: float, job: PendingJob, now: float, rules: Rules) -> Reason:
    """Of a gang that cards are kept for. at: when they are free at the latest, infinity where nobody knows."""
    if at < math.inf:
        text = "cards are kept for it"
    elif now - since(job) >= rules.drain_after_s:
        text = "a host is kept empty for it; nobody knows when the last of its cards comes free"
    else:
        text = f"nobody knows when they come free, so others pass it until it has waited {span(rules.drain_after_s)}"
    return Reason(found.code, f"{found.text}; {text}", {**found.figures, "reserved_for": coarse(at, now)})


def coarse(at: float, now: float) -> float | None:
    """A time to come, to a sixteenth of the time until then and no finer than a minute: reasons change seldom."""
    if at == math.inf:
        return None
    grid = 60.0
    while grid * 16 < at - now:
        grid *= 2
    return math.ceil(at / grid) * grid
