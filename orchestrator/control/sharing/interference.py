"""Jobs side by side on one card: how much they slow each other down, when that is more than the rules allow. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from jobs.state import Code, Reason
from jobs.units import listed_jobs
from orchestrator.control.snapshot.progress import learned_pace, projected_step_s
from orchestrator.scheduler.eta import PROJECTED_SPREAD, SETTLED_STEPS
from orchestrator.scheduler.policy import Rules
from orchestrator.store.rows import AttemptRow, ProgressRow

SETTLE_S = 10.0  # a dozen steps of a small model are over in a second, and a second says little


@dataclass(frozen=True)
class Sharer:
    """A job on a shared card. alone_s, beside_s: seconds that its steps take alone and beside the others, None where

    nobody knows; spread: the share of alone_s by which that may be off.
    """

    job_id: int
    attempt_id: int
    opened_at: float
    alone_s: float | None
    beside_s: float | None
    spread: float = 0.0

    @property
    def slowdown(self) -> float | None:
        """How many times longer its steps take beside the others, at the least; None where nobody knows."""
        if not self.alone_s or not self.beside_s:
            return None
        return self.beside_s / (self.alone_s * (1 + self.spread))


def step_s(lines: Sequence[ProgressRow]) -> float | None:
    """What a step takes, by these lines of one attempt in the order of steps; None until they say enough.

    The first of them counts steps from before.
    """
    if (
        len(lines) < 3
        or lines[-1].step - lines[0].step < SETTLED_STEPS
        or lines[-1].ts - lines[0].ts < SETTLE_S
    ):
        return None
    known = [line.step_s for line in lines[1:] if line.step_s is not None]
    return median(known) if known else None


def projected_s(attempt: AttemptRow) -> float | None:
    """What a step was projected to take alone; None where no pace was ever measured for such a job on such a card."""
    return projected_step_s(attempt) if learned_pace(attempt) != 1.0 else None


def sharer(attempt: AttemptRow, alone_s: float | None, beside_s: float | None) -> Sharer:
    """One whose pace alone was measured, or else was projected."""
    known = (attempt.job_id, attempt.id, attempt.opened_at)
    if alone_s is not None:
        return Sharer(*known, alone_s, beside_s)
    return Sharer(*known, projected_s(attempt), beside_s, PROJECTED_SPREAD)


def last_alone(
    since: float, until: float, others: Iterable[tuple[float, float | None]]
) -> tuple[float, float] | None:
    """The last time between two moments when no other was on the card. others: from when to when, None: still."""
    at, found = since, None
    for began, ended in sorted(others, key=lambda held: held[0]):
        if began > at:
            found = (at, min(began, until))
        if ended is None:
            return found
        at = max(at, ended)
        if at >= until:
            return found
    return (at, until) if at < until else found


def too_slow(sharers: Sequence[Sharer], rules: Rules) -> bool:
    """Whether they are better off one after the other.

    One takes longer than share_slowdown allows; or together they do less in an hour than one of them does alone.
    """
    known = [found for one in sharers if (found := one.slowdown) is not None]
    if any(found > rules.share_slowdown for found in known):
        return True
    return len(known) == len(sharers) and sum(1 / found for found in known) < 1


def parting(sharers: Sequence[Sharer], rules: Rules) -> tuple[Sharer, Reason] | None:
    """Who is stopped, and why: the one that came last. None while all is well, or it is too early to tell."""
    if len(sharers) < 2 or any(one.beside_s is None for one in sharers) or not too_slow(sharers, rules):
        return None
    last = max(sharers, key=lambda one: (one.opened_at, one.attempt_id))
    slowest = max(sharers, key=lambda one: one.slowdown or 0.0)
    others = sorted(one.job_id for one in sharers if one is not last)
    names = listed_jobs(others, len(others))
    text = (
        f"stopped: beside each other on one card, job {slowest.job_id} took {slowest.slowdown:.1f} times as long "
        f"as alone; continues from its checkpoint, and not beside {names}"
    )
    figures = {
        "apart_from": others,
        "slowdown": slowest.slowdown,
        "alone_s": slowest.alone_s,
        "beside_s": slowest.beside_s,
        "allowed": rules.share_slowdown,
    }
    return last, Reason(Code.PREEMPTED, text, figures)


def apart(parted: Iterable[tuple[int, int]]) -> dict[int, frozenset[int]]:
    """By job, those that it must not share a card with: pairs hold both ways."""
    found: dict[int, set[int]] = {}
    for one, other in parted:
        found.setdefault(one, set()).add(other)
        found.setdefault(other, set()).add(one)
    return {job_id: frozenset(others) for job_id, others in found.items()}
