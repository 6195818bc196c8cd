"""Builders of fleet snapshots that name only what a test is about, and a chooser with made-up peaks."""

from __future__ import annotations

from itertools import count
from typing import Any

from jobs.cards import Card
from jobs.jobfile.spec import JobSpec
from jobs.memory.ladder import Choice, NoFit, choose
from jobs.memory.project import Projection, Rung
from jobs.state import Code, Reason
from jobs.units import GiB
from orchestrator.scheduler import plan as scheduler
from orchestrator.scheduler.cache.scheduler_cache import PlanInput, SchedulerCache
from orchestrator.scheduler.feasibility import Chooser
from orchestrator.scheduler.fleet import Fleet, Gpu, Host, NoProfile, PendingJob
from orchestrator.scheduler.job_class import JobClass, Tier
from orchestrator.scheduler.plan import Plan
from orchestrator.scheduler.policy import Rules

_numbers = count(1)
STACK = {"torch": "2.13.0"}
KEY = "key"


def spec(**sections: Any) -> JobSpec:
    """A valid job; sections are laid over it."""
    return JobSpec.model_validate({"model": "org/model", "data": "org/data", **sections})


def gpu(
    number: int, gib: float = 24, name: str = "", held_by: int | None = None, fault: str | None = None
) -> Gpu:
    """A card; number is its id and index."""
    return Gpu(
        number, f"GPU-{number}", number, "cuda", name or f"card{gib:g}", int(gib * GiB), fault, held_by
    )


def host(number: int, *gpus: Gpu, **fields: Any) -> Host:
    """An online host named h<number>."""
    return Host(number, f"h{number}", tuple(gpus), **{"stack": STACK, **fields})


def waiting(
    number: int, priority: int = 50, key: str = KEY, not_before: float = 0.0, **sections: Any
) -> PendingJob:
    """A queued job, submitted in the order of its number."""
    stack_id = host(0).stack_id
    return PendingJob(number, spec(**sections), priority, float(number), {stack_id: key}, not_before)


def fleet(hosts: list[Host], jobs: list[PendingJob], profiles: dict[str, Any] | None = None) -> Fleet:
    """A snapshot in which the default profile is known."""
    return Fleet(tuple(hosts), tuple(jobs), {KEY: PROFILE} if profiles is None else profiles)


# The planner never looks inside a profile: it hands it to the chooser.
PROFILE: Any = "a traced profile"


class Peaks:
    """A chooser: needs `off` GiB without checkpointing, `every_layer` with it."""

    def __init__(self, off: float, every_layer: float) -> None:
        self.off, self.every_layer = off, every_layer

    def __call__(self, job: PendingJob, profile: Any, card: Card, stack: str = "") -> Choice | NoFit:
        for every_n, gib in ((0, self.off), (1, self.every_layer)):
            peak = projection(Rung(every_n, 1), gib)
            if peak.upper_bytes <= card.memory_bytes:
                return Choice(peak.rung, peak, slowdown=0.3 * every_n, tried=())
        figures = {"needs_bytes": peak.upper_bytes, "card_bytes": card.memory_bytes}
        return NoFit(Reason(Code.MEMORY, f"needs {self.every_layer} GiB", figures), (), peak)


def plan_input(
    fleet: Fleet, now: float, chooser: Chooser | None = None, rules: Rules | None = None
) -> PlanInput:
    """What a plan is made from, with an empty cache."""
    cache = SchedulerCache(chooser or _uncalibrated)
    cache.observe(fleet)
    return cache.plan_input(fleet, now, rules or Rules())


def plan(
    fleet: Fleet,
    now: float,
    chooser: Chooser | None = None,
    rules: Rules | None = None,
    reasons: bool = True,
) -> Plan:
    """The plan for a fleet, with an empty cache."""
    return scheduler.plan(plan_input(fleet, now, chooser, rules), reasons)


def _uncalibrated(job: PendingJob, profile: Any, card: Card, stack: str = "") -> Choice | NoFit:
    return choose(profile, job.spec, card)


def projection(rung: Rung, gib: float) -> Projection:
    """A projection of that many GiB, all of it weights."""
    peak = int(gib * GiB)
    return Projection(
        rung=rung,
        parts={"weights": peak},
        phase="backward",
        allocated_bytes=peak,
        reserved_bytes=peak,
        device_bytes=peak,
        upper_bytes=peak,
        step_s=1.0,
    )


def job_class(gpus: int = 1) -> JobClass:
    """Jobs that run on the one card group that there is, a second a step."""
    peak = projection(Rung(0, 1), 1)
    tier = Tier(Choice(peak.rung, peak, slowdown=0.0, tried=()), (0,), (0.0,))
    number = next(_numbers)  # jobs of two classes are never alike
    return JobClass(gpus, False, False, (tier,), {}, 8, frozenset([0]), number=number, group_set=number)


__all__ = ["KEY", "NoProfile", "Peaks", "fleet", "gpu", "host", "job_class", "projection", "spec", "waiting"]
