"""Running jobs that would end clearly sooner on other cards of their host. Pure; off unless the rules say so."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.state import Code, Reason
from jobs.units import span
from orchestrator.fleet import Fleet, Running, Waiting
from orchestrator.order import Rules
from orchestrator.stock import Spot, Stock


def moves(fleet: Fleet, now: float, rules: Rules, stock: Stock) -> Mapping[int, Reason]:
    """Jobs to stop so that they go on elsewhere, with why. stock: what is free once the queue had its turn.

    A job moves to other cards of its host, where its checkpoint lies, if its own policy puts them first, and only if it
    ends sooner by move_share of what it has left and by move_least_s, stopping and starting again counted: so it does
    not go to and fro. Not before it ran for move_after_s, and not while its end is only projected.
    """
    if not rules.move:
        return {}
    found: dict[int, Reason] = {}
    for job in sorted(fleet.running, key=lambda job: (job.started_at, job.job_id)):
        itself = fleet.movable.get(job.job_id)
        if itself is None or not _settled(job, now, rules):
            continue
        better = _better(job, itself, now, rules, stock)
        if better is not None:
            spot, gain_s = better
            stock.draw(spot, shares=False)
            gpu = spot.gpus[0]
            text = f"moves to {gpu.label}, where it ends {span(gain_s)} sooner"
            found[job.job_id] = Reason(Code.PREEMPTED, text, {"gain_s": gain_s, "card": gpu.label})
    return found


def _settled(job: Running, now: float, rules: Rules) -> bool:
    """Whether it may be stopped, has run for long enough, and its pace was measured."""
    if not job.movable or job.shares or job.stopping_until is not None or job.ends_at is None:
        return False
    return now - job.started_at >= rules.move_after_s and job.spread <= rules.move_spread


def _better(
    job: Running, itself: Waiting, now: float, rules: Rules, stock: Stock
) -> tuple[Spot, float] | None:
    """Free cards that its policy prefers, and how much sooner it ends there."""
    kind = stock.kind(itself)
    local = stock.kind_on(itself, kind, job.host_id)
    spot = None if local is None else stock.fit(local)
    mine = next((stock.shelf_of[gpu_id] for gpu_id in job.gpu_ids if gpu_id in stock.shelf_of), None)
    if spot is None or spot.side or mine is None or itself.steps_left is None or job.ends_at is None:
        return None
    here = next((place for place, tier in enumerate(kind.tiers) if mine in tier.shelves), None)
    there = next(place for place, tier in enumerate(kind.tiers) if spot.parts[0][0] in tier.shelves)
    if here is None or kind.tiers[there].key >= kind.tiers[here].key:
        return None
    left_s = job.ends_at - now
    gain_s = left_s - rules.stop_s - rules.restart_s - itself.steps_left * spot.choice.step_s
    return (spot, gain_s) if gain_s >= max(rules.move_share * left_s, rules.move_least_s) else None
