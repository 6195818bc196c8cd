"""Running jobs that would end clearly sooner on other cards. Pure; off unless the rules say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from jobs.state import Code, Reason
from jobs.units import span
from orchestrator.scheduler.fleet import Fleet, PendingJob, RunningJob
from orchestrator.scheduler.job_class import Classes, JobClass, Tier
from orchestrator.scheduler.placement.capacity import Capacity
from orchestrator.scheduler.placement.card_groups import CardSet
from orchestrator.scheduler.placement.locality import carry_s, pays
from orchestrator.scheduler.policy import Rules


def moves(
    fleet: Fleet, now: float, rules: Rules, classes: Classes, capacity: Capacity
) -> Mapping[int, Reason]:
    """Jobs to stop so that they go on elsewhere, with why. capacity: what is free once the queue had its turn.

    A job moves to cards that its own policy puts first, and only if it ends sooner by move_share of what it has left
    and by move_least_s, stopping and starting again counted, and to another host its checkpoint's way: so it does not
    go to and fro. Not before it ran for move_after_s, and not while its end is only projected.
    """
    if not rules.move:
        return {}
    found: dict[int, Reason] = {}
    for job in sorted(fleet.running, key=lambda job: (job.started_at, job.job_id)):
        itself = fleet.movable.get(job.job_id)
        if itself is None or not _settled(job, now, rules):
            continue
        better = _better(job, itself, now, rules, classes, capacity)
        if better is not None:
            cards, gain_s = better
            capacity.draw(cards, shares=False)
            gpu = cards.gpus[0]
            host = capacity.layout.groups[cards.parts[0][0]].host
            where = gpu.label if host.id == job.host_id else f"{gpu.label} on {host.name}"
            text = f"moves to {where}, where it ends {span(gain_s)} sooner"
            figures = {"gain_s": gain_s, "card": gpu.label, "host": host.name}
            found[job.job_id] = Reason(Code.PREEMPTED, text, figures)
    return found


def _settled(job: RunningJob, now: float, rules: Rules) -> bool:
    """Whether it may be stopped, has run for long enough, and its pace was measured."""
    if not job.movable or job.shares or job.stopping_until is not None or job.ends_at is None:
        return False
    return now - job.started_at >= rules.move_after_s and job.spread <= rules.move_spread


def _better(
    job: RunningJob, itself: PendingJob, now: float, rules: Rules, classes: Classes, capacity: Capacity
) -> tuple[CardSet, float] | None:
    """Free cards that its policy prefers and where it ends soonest, and how much sooner that is than here."""
    job_class = classes.of(itself)
    local = classes.on_host(job_class, job.host_id)
    group_of = capacity.layout.group_of
    mine = next((group_of[gpu_id] for gpu_id in job.gpu_ids if gpu_id in group_of), None)
    here = next((tier for tier in job_class.tiers if mine in tier.groups), None)
    if here is None or local is None or itself.steps_left is None or job.ends_at is None:
        return None
    found = []
    left_s = job.ends_at - now
    for cards, there, away in _card_sets(job, job_class, local, capacity):
        # Once it waits, pays() decides whether it goes there or home again: it must say the same.
        if there.key >= here.key or (away and not pays(itself, local, there, rules)):
            continue
        carried_s = carry_s(itself, rules) if away else 0.0
        going_on_s = itself.steps_left * there.choice.step_s
        gain_s = left_s - rules.stop_s - carried_s - rules.restart_s - going_on_s
        if gain_s >= max(rules.move_share * left_s, rules.move_least_s):
            found.append((cards, gain_s))
    return max(found, key=lambda pair: pair[1], default=None)


def _card_sets(
    job: RunningJob, job_class: JobClass, local: JobClass, capacity: Capacity
) -> Iterator[tuple[CardSet, Tier, bool]]:
    """Free cards on its host, and anywhere, each with its tier, and whether that is another host."""
    for cards in (capacity.fit(local), capacity.fit(job_class)):
        if cards is None or cards.side or len(cards.parts) > 1:
            continue
        group = cards.parts[0][0]
        tier = next(tier for tier in job_class.tiers if group in tier.groups)
        yield cards, tier, capacity.layout.groups[group].host.id != job.host_id
