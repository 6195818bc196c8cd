"""When queued jobs are likely to start: at best, and by the plan played on with late ends. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.state import Code
from orchestrator.scheduler.cache.scheduler_cache import PlanInput
from orchestrator.scheduler.eta import PROJECTED_SPREAD
from orchestrator.scheduler.fair_share import in_order
from orchestrator.scheduler.fleet import PendingJob
from orchestrator.scheduler.job_class import JobClass
from orchestrator.scheduler.plan import Plan
from orchestrator.scheduler.policy import Rules, rank

# With 1, one of six jobs started later than it was told under `fair`; with 1.5 one of eleven; with 2 one of sixteen, in
# a range that is a third wider (`make bench-scheduling ARGS='--only estimates'`).
COMERS = 1.5
MOST_JOBS = 1000  # of the front of the queue; what is behind them starts later than they do


@dataclass(frozen=True)
class StartInterval:
    """When a job is likely to start, Unix seconds. latest: None where it hangs on a job whose end nobody knows."""

    earliest: float
    latest: float | None


def starts(given: PlanInput, decided: Plan) -> dict[int, StartInterval]:
    """Likely starts of the front of the queue, by job id. given: as the plan was made from.

    Earliest: as if it passed everybody, on the card group that has its cards first; where the policy stops others, now.
    Latest: in its turn in the plan's order, each job on the card group that has its cards soonest, and COMERS times
    that wait, for jobs still to come may pass it.
    """
    now, rules = given.now, given.rules
    turn = _turns(given, decided)
    free_at = _free_at(given, decided, late=False)
    late = _play(given, decided, turn)
    found = {}
    for job, job_class in turn:
        if rules.preempt and rules.policy in ("shortest", "attained"):
            soonest = now  # others may be stopped for it, or for one that does not need all of their cards
        elif job_class.gang:
            soonest = _span(free_at, job_class)[0]
        else:
            soonest = min((at for at, _ in _has(free_at, job_class)), default=math.inf)
        ready = max(now, job.not_before)
        until = ready + COMERS * (late[job.job_id] - ready)
        reason = decided.waits.get(job.job_id)
        due = None if reason is None else reason.figures.get("preempts_at")
        if due is not None:  # it stops others then, and they save first
            soonest, until = min(soonest, due), min(until, due + COMERS * rules.stop_s)
        at = max(ready, soonest)
        if at < math.inf:
            found[job.job_id] = StartInterval(at, max(at, until) if until < math.inf else None)
    return found


def _has(free_at: Mapping[int, list[float]], job_class: JobClass) -> list[tuple[float, int]]:
    """When each of a class's card groups has the cards for one job."""
    return [
        (free_at[group][job_class.gpus - 1], group)
        for group in job_class.groups
        if len(free_at[group]) >= job_class.gpus
    ]


_Parts = Sequence[tuple[int, int]]  # card groups, and how many cards of each


def _span(free_at: Mapping[int, list[float]], job_class: JobClass) -> tuple[float, _Parts]:
    """When a gang has several hosts, the soonest to be free, and so much of the last of them as it lacks; and which."""
    best: tuple[float, _Parts] = (math.inf, ())
    for tier in job_class.tiers:
        left, at, parts = job_class.gpus, 0.0, []
        for group in sorted(tier.groups, key=lambda group: (free_at[group][-1], group)):
            if left <= 0:
                break
            count = min(left, len(free_at[group]))
            parts.append((group, count))
            left, at = left - count, max(at, free_at[group][count - 1])
        if left <= 0 and at < best[0]:
            best = (at, parts)
    return best


def _turns(given: PlanInput, decided: Plan) -> list[tuple[PendingJob, JobClass]]:
    """Jobs that only wait for cards, in order."""
    fleet, now, rules = given.fleet, given.now, given.rules
    ranked = []
    nominated = {
        *(job.stopping_for for job in fleet.running),
        *(reason.figures.get("for_job") for reason in decided.stops.values()),
        *fleet.cleared.values(),
    }
    for job in fleet.queue:
        reason = decided.waits.get(job.job_id)
        over_quota = reason is not None and reason.code is Code.QUOTA  # it waits for its own project's jobs
        if job.job_id in decided.starts or job.blocked is not None or over_quota:
            continue
        job_class = given.classes.of(job)
        if job_class.tiers:
            ranked.append(rank(job, job_class, rules, now, owed=False, nominated=job.job_id in nominated))
    ordered = in_order(ranked, fleet.usage, fleet.projects, rules)
    return [(entry.job, entry.job_class) for entry, _ in zip(ordered, range(MOST_JOBS), strict=False)]


def _play(given: PlanInput, decided: Plan, turn: Sequence[tuple[PendingJob, JobClass]]) -> dict[int, float]:
    """The start of each job in its turn if everything ends late, by the rules that say what a start and an end take."""
    now, late = given.now, given.rules
    free_at = _free_at(given, decided, late=True)
    heaps: dict[int, list[tuple[float, int]]] = {}
    found: dict[int, float] = {}
    for job, job_class in turn:
        at, parts = _span(free_at, job_class) if job_class.gang else _first(free_at, job_class, heaps)
        at = max(at, now, job.not_before)
        found[job.job_id] = at
        if parts:
            ends = at + _lasts(job, job_class, parts[0][0], late)
            for group, count in parts:
                free_at[group] = sorted([*[ends] * count, *free_at[group][count:]])
    return found


def _first(
    free_at: Mapping[int, list[float]], job_class: JobClass, heaps: dict[int, list[tuple[float, int]]]
) -> tuple[float, _Parts]:
    """When one of a class's card groups has the cards for one job, and which.

    heaps: of each class, by when a card group has them: what is on top may be out of date, then it goes back with its
    new time.
    """
    heap = heaps.get(job_class.number)
    if heap is None:
        heap = _has(free_at, job_class)
        heapq.heapify(heap)
        heaps[job_class.number] = heap
    at, group = heap[0]
    while (known := free_at[group][job_class.gpus - 1]) != at:
        heapq.heapreplace(heap, (known, group))
        at, group = heap[0]
    return at, [(group, job_class.gpus)]


def _free_at(given: PlanInput, decided: Plan, *, late: bool) -> dict[int, list[float]]:
    """By card group, when each of its cards is free, soonest first. late: if everything ends late."""
    fleet, now, rules = given.fleet, given.now, given.rules
    at: dict[int, float] = {}
    for job in fleet.running:
        if job.stopping_until is not None:
            end = job.stopping_until
        elif job.job_id in decided.stops:
            end = now + rules.stop_s
        elif job.ends_at is None:
            end = math.inf if late else now
        else:
            reach = job.spread if late else -min(job.spread, 1.0)
            end = now + max(0.0, job.ends_at - now) * (1 + reach) + (rules.stop_s if late else 0.0)
        for gpu_id in job.gpu_ids:
            at[gpu_id] = max(end, at.get(gpu_id, 0.0))
    jobs = {job.job_id: job for job in fleet.queue}
    for job_id, placement in decided.starts.items():
        lasts = _seconds(jobs[job_id], placement.choice.step_s, rules if late else None)
        at |= dict.fromkeys((gpu.id for gpu in placement.gpus), now + lasts)
    held = {gpu.id for host in fleet.hosts for gpu in host.gpus if gpu.held_by is not None}
    unknown = math.inf if late else now
    return {
        group: sorted(
            at.get(gpu.id, unknown if gpu.id in held or not cards.host.takes else now) for gpu in cards.gpus
        )
        for group, cards in enumerate(given.capacity.layout.groups)
    }


def _lasts(job: PendingJob, job_class: JobClass, group: int, late: Rules | None) -> float:
    tier = next(tier for tier in job_class.tiers if group in tier.groups)
    return _seconds(job, tier.choice.step_s, late)


def _seconds(job: PendingJob, step_s: float, late: Rules | None) -> float:
    """How long a job that starts holds its cards, by its projection."""
    if job.steps_left is None:
        return math.inf if late else 0.0
    trains = job.steps_left * step_s
    return late.restart_s + trains * (1 + PROJECTED_SPREAD) + late.stop_s if late else trains * 0.5
