"""When queued jobs are likely to start: the plan played on, by count of cards, with early and with late ends. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.fleet import Fleet, Waiting
from orchestrator.order import Rules, in_order, rank
from orchestrator.pace import PROJECTED_SPREAD
from orchestrator.plan import Plan
from orchestrator.stock import Kind, Stock

MOST_JOBS = 1000  # of the front of the queue; what is behind them starts later than they do


@dataclass(frozen=True)
class Start:
    """When a job is likely to start, Unix seconds. latest: None where it hangs on a job whose end nobody knows."""

    earliest: float
    latest: float | None


def starts(fleet: Fleet, decided: Plan, now: float, stock: Stock, rules: Rules) -> dict[int, Start]:
    """Likely starts of the front of the queue, by job id. stock: as the plan was made from.

    Jobs take their turns in the plan's order, each on the shelf that has its cards soonest. New jobs, preemption and
    priorities of those to come are left out: that a job is passed by one submitted later, nobody can foresee.
    """
    turn = _turns(fleet, decided, now, stock, rules)
    early = _play(fleet, decided, turn, now, stock, late=False)
    late = _play(fleet, decided, turn, now, stock, late=True)
    return {
        job_id: Start(at, late[job_id] if late[job_id] < math.inf else None)
        for job_id, at in early.items()
        if at < math.inf
    }


def _turns(fleet: Fleet, decided: Plan, now: float, stock: Stock, rules: Rules) -> list[tuple[Waiting, Kind]]:
    """Jobs that only wait for cards, in order."""
    ranked = []
    for job in fleet.queue:
        if job.job_id in decided.starts or job.blocked is not None:
            continue
        kind = stock.kind(job)
        if kind.tiers and not kind.gang:
            ranked.append(rank(job, kind.tiers[0].choice.step_s, rules, now, owed=False))
    ordered = in_order(ranked, fleet.usage, fleet.projects, rules)
    return [(entry.job, stock.kind(entry.job)) for entry, _ in zip(ordered, range(MOST_JOBS), strict=False)]


def _play(
    fleet: Fleet,
    decided: Plan,
    turn: Sequence[tuple[Waiting, Kind]],
    now: float,
    stock: Stock,
    late: bool,
) -> dict[int, float]:
    """The start of each job if everything ends early, or late."""
    free_at = _free_at(fleet, decided, now, stock, late)
    heaps: dict[int, list[tuple[float, int]]] = {}
    found: dict[int, float] = {}
    for job, kind in turn:
        # By when a shelf has so many cards: what is on top may be out of date, then it goes back with its new time.
        heap = heaps.get(id(kind))
        if heap is None:
            heap = [
                (free_at[place][kind.gpus - 1], place)
                for place in kind.shelves
                if len(free_at[place]) >= kind.gpus
            ]
            heapq.heapify(heap)
            heaps[id(kind)] = heap
        at, place = heap[0]
        while (known := free_at[place][kind.gpus - 1]) != at:
            heapq.heapreplace(heap, (known, place))
            at, place = heap[0]
        at = max(at, now, job.not_before)
        found[job.job_id] = at
        ends = at + _lasts(job, kind, place, late)
        free_at[place] = sorted([*[ends] * kind.gpus, *free_at[place][kind.gpus :]])
    return found


def _free_at(fleet: Fleet, decided: Plan, now: float, stock: Stock, late: bool) -> dict[int, list[float]]:
    """By shelf, when each of its cards is free, soonest first."""
    at: dict[int, float] = {}
    for job in fleet.running:
        if job.stopping_until is not None:
            end = job.stopping_until
        elif job.ends_at is None:
            end = math.inf if late else now
        else:
            reach = job.spread if late else -min(job.spread, 1.0)
            end = now + max(0.0, job.ends_at - now) * (1 + reach)
        for gpu_id in job.gpu_ids:
            at[gpu_id] = max(end, at.get(gpu_id, 0.0))
    jobs = {job.job_id: job for job in fleet.queue}
    for job_id, placement in decided.starts.items():
        lasts = _seconds(jobs[job_id], placement.choice.step_s, late)
        at |= dict.fromkeys((gpu.id for gpu in placement.gpus), now + lasts)
    held = {gpu.id for host in fleet.hosts for gpu in host.gpus if gpu.held_by is not None}
    unknown = math.inf if late else now
    return {
        place: sorted(
            at.get(gpu.id, unknown if gpu.id in held or not shelf.host.takes else now) for gpu in shelf.gpus
        )
        for place, shelf in enumerate(stock.shelves)
    }


def _lasts(job: Waiting, kind: Kind, place: int, late: bool) -> float:
    tier = next(tier for tier in kind.tiers if place in tier.shelves)
    return _seconds(job, tier.choice.step_s, late)


def _seconds(job: Waiting, step_s: float, late: bool) -> float:
    """How long a job that starts holds its cards, by its projection."""
    if job.steps_left is None:
        return math.inf if late else 0.0
    return job.steps_left * step_s * (1 + PROJECTED_SPREAD if late else 0.5)
