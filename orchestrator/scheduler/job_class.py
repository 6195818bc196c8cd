"""Classes of equivalent jobs, which fit the same cards in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from jobs.jobfile.fields import Policy
from jobs.memory.ladder import Choice
from jobs.state import Code, Reason
from orchestrator.scheduler.feasibility import overall
from orchestrator.scheduler.fleet import PendingJob


@dataclass(frozen=True, slots=True)
class Tier:
    """Card groups that do equally well for a class of jobs: one rung, one speed. group_set: the number of this set."""

    choice: Choice
    groups: tuple[int, ...]
    key: tuple[float, ...]
    group_set: int = field(default=0, compare=False)


@dataclass(frozen=True)
class JobClass:
    """Jobs that fit the same cards in the same way.

    tiers: where they could run, best first; groups: of all of them; misfits: for each host that could never take them
    as it is now, why; most: cards of its largest card group; apart: jobs that it does not share a card with; home: card
    groups of which a gang over several hosts takes one in any case, for its checkpoint is there; empty: any will do.
    number: of this class, and of no other that the same cache ever made; group_set: the same for card groups and home,
    of all classes that have these.
    """

    gpus: int
    across: bool
    shares: bool
    tiers: tuple[Tier, ...]
    misfits: Mapping[str, Reason]
    most: int
    groups: frozenset[int]
    policy: Policy = "smallest_card"
    apart: frozenset[int] = frozenset()
    home: frozenset[int] = frozenset()
    number: int = field(default=0, compare=False)
    group_set: int = field(default=0, compare=False)

    @cached_property
    def step_s(self) -> float:
        """Of an optimizer step where it runs best."""
        return self.tiers[0].choice.step_s

    @cached_property
    def lacks(self) -> Reason:
        """Why no host could take it as it is now."""
        return overall(self.misfits)

    @cached_property
    def untraced(self) -> bool:
        """Whether somewhere it waits for its profile, or for the lengths of its data."""
        return any(reason.code is Code.PROFILE_PENDING for reason in self.misfits.values())

    @property
    def gang(self) -> bool:
        """Whether it needs several hosts."""
        return self.gpus > self.most


@dataclass(slots=True)
class Demand:
    """A class of waiting jobs, and how many GPUs those of it ask for, by priority."""

    job_class: JobClass
    wanted: dict[int, int] = field(default_factory=dict)
    jobs: int = 0


class Classes(Protocol):
    """The classes of jobs in one fleet (orchestrator/scheduler/cache/job_classes.py)."""

    def of(self, job: PendingJob) -> JobClass:
        """The class of a job."""
        ...

    def on_host(self, job_class: JobClass, host_id: int) -> JobClass | None:
        """The same on one host alone, None where that host could not take it."""
        ...

    def with_host(self, job_class: JobClass, host_id: int) -> JobClass | None:
        """The same for a gang that takes cards of this host among others, None where the host could not take part."""
        ...

    def leaving(
        self, job_class: JobClass, local: JobClass, sooner: tuple[int, ...], waited: bool
    ) -> JobClass:
        """The tiers that are worth leaving home for (sooner), home, and the rest once it has waited."""
        ...
