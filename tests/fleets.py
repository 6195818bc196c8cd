"""Builders of fleet snapshots that name only what a test is about, and a chooser with made-up peaks."""

from __future__ import annotations

from typing import Any

from jobs.cards import Card
from jobs.jobfile.spec import JobSpec
from jobs.memory.ladder import Choice, NoFit
from jobs.memory.project import Projection, Rung
from jobs.state import Code, Reason
from jobs.units import GiB
from orchestrator.scheduler.fleet import Fleet, Gpu, Host, NoProfile, Waiting
from orchestrator.scheduler.job_class import Kind, Tier

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
) -> Waiting:
    """A queued job, submitted in the order of its number."""
    stack_id = host(0).stack_id
    return Waiting(number, spec(**sections), priority, float(number), {stack_id: key}, not_before)


def fleet(hosts: list[Host], jobs: list[Waiting], profiles: dict[str, Any] | None = None) -> Fleet:
    """A snapshot in which the default profile is known."""
    return Fleet(tuple(hosts), tuple(jobs), {KEY: PROFILE} if profiles is None else profiles)


# The planner never looks inside a profile: it hands it to the chooser.
PROFILE: Any = "a traced profile"


class Peaks:
    """A chooser: needs `off` GiB without checkpointing, `every_layer` with it."""

    def __init__(self, off: float, every_layer: float) -> None:
        self.off, self.every_layer = off, every_layer

    def __call__(self, job: Waiting, profile: Any, card: Card, stack: str = "") -> Choice | NoFit:
        for every_n, gib in ((0, self.off), (1, self.every_layer)):
            peak = projection(Rung(every_n, 1), gib)
            if peak.upper_bytes <= card.memory_bytes:
                return Choice(peak.rung, peak, slowdown=0.3 * every_n, tried=())
        figures = {"needs_bytes": peak.upper_bytes, "card_bytes": card.memory_bytes}
        return NoFit(Reason(Code.MEMORY, f"needs {self.every_layer} GiB", figures), (), peak)


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


def kind(gpus: int = 1) -> Kind:
    """Jobs that run on the one shelf that there is, a second a step."""
    peak = projection(Rung(0, 1), 1)
    tier = Tier(Choice(peak.rung, peak, slowdown=0.0, tried=()), (0,), (0.0,))
    return Kind(gpus, False, False, (tier,), {}, 8, frozenset([0]))


__all__ = ["KEY", "NoProfile", "Peaks", "fleet", "gpu", "host", "kind", "projection", "spec", "waiting"]
