"""Reservations: a job that can't start gets a start to come, and only what ends before it may use its cards."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.scheduler.cache.running_index import RunningIndex
from orchestrator.scheduler.fleet import RunningJob
from orchestrator.scheduler.job_class import JobClass
from orchestrator.scheduler.placement.capacity import Capacity
from orchestrator.scheduler.policy import Rules


@dataclass(frozen=True, slots=True)
class Reservation:
    """From `at` on, `gpus` cards of a card group are a job's.

    job_id: whose; firm: against jobs too of which nobody knows how long they take, once the job has waited for long;
    drains: against all of those, though nobody knows either when the cards are free, only once it has waited for very
    long: see Rules.
    """

    job_id: int
    at: float
    gpus: int
    firm: bool
    drains: bool
    owed: bool


@dataclass
class Reservations:
    """The reservations of one plan, by card group.

    claimed: cards that others were stopped for, which no reservation counts on.
    A reservation is worked out when somebody looks, or when the capacity that it depends on is about to change.
    """

    now: float
    capacity: Capacity
    index: RunningIndex
    running: Iterable[RunningJob]
    rules: Rules
    claimed: Container[int] = ()
    _spare: dict[int, int] = field(default_factory=dict)
    _reserved: dict[int, float] = field(default_factory=dict)
    _by_group: dict[int, Reservation] = field(default_factory=dict)
    _asked: list[tuple[int, JobClass, float, int, bool]] = field(default_factory=list)
    _ends: dict[int, list[tuple[float, int]]] | None = None

    def __post_init__(self) -> None:
        self.capacity.watch(self._settle)

    def ask(self, job_id: int, job_class: JobClass, waited_s: float, most: int, owed: bool) -> None:
        """A job that can't start would have cards kept for it, while no more than so many card groups are kept."""
        self._asked.append((job_id, job_class, waited_s, most, owed))

    @property
    def by_group(self) -> Mapping[int, Reservation]:
        """What is kept, for whom."""
        self._settle()
        return self._by_group

    @property
    def by_job(self) -> Mapping[int, float]:
        """When the cards that are kept for a job are free at the latest, infinity where nobody knows."""
        self._settle()
        return self._reserved

    @property
    def found(self) -> Mapping[int, float]:
        """The same, as far as anything hung on it."""
        return self._reserved

    def _settle(self) -> None:
        for job_id, job_class, waited_s, most, owed in self._asked:
            if len(self._by_group) < most:
                at = self._reserve(job_id, job_class, waited_s, owed)
                if at is not None:
                    self._reserved[job_id] = at
        self._asked.clear()

    def _reserve(self, job_id: int, job_class: JobClass, waited_s: float, owed: bool) -> float | None:
        """The earliest start of a job on card groups that nobody reserved yet, kept for it. None: nothing to keep."""
        best: tuple[float, int, int] | None = None
        if job_class.gang:
            return self._whole(job_id, job_class, waited_s, owed)
        for tier in job_class.tiers:
            for group in tier.groups:
                if group in self._by_group or self.capacity.layout.sizes[group] < job_class.gpus:
                    continue
                at = self._time(group, job_class.gpus)
                # Where nobody knows when, the card group that lacks least, so that a gang is not starved by small jobs.
                key = (at, -len(self.capacity.free[group]), group)
                if best is None or key < best:
                    best = key
        if best is None:
            return None
        self._hold(best[2], self._made(job_id, best[0], job_class.gpus, waited_s, owed))
        return best[0]

    def _whole(self, job_id: int, job_class: JobClass, waited_s: float, owed: bool) -> float | None:
        """Several hosts: those that are free soonest."""
        for tier in job_class.tiers:
            times = sorted(
                (self._time(group, len(self.capacity.layout.groups[group].gpus)), group)
                for group in tier.groups
                if group not in self._by_group
            )
            times.sort(key=lambda found: found[1] not in job_class.home)
            left, chosen, at = job_class.gpus, [], self.now
            for when, group in times:
                if left <= 0:
                    break
                size = min(left, len(self.capacity.layout.groups[group].gpus))
                chosen.append((group, size))
                left, at = left - size, max(at, when)
            if left <= 0 and not (job_class.home and job_class.home.isdisjoint(group for group, _ in chosen)):
                for group, size in chosen:
                    self._hold(group, self._made(job_id, at, size, waited_s, owed))
                return at
        return None

    def _made(self, job_id: int, at: float, gpus: int, waited_s: float, owed: bool) -> Reservation:
        rules = self.rules
        return Reservation(
            job_id,
            at,
            gpus,
            firm=waited_s >= rules.reserve_after_s,
            drains=waited_s >= rules.drain_after_s,
            owed=owed,
        )

    def _hold(self, group: int, reservation: Reservation) -> None:
        self._by_group[group] = reservation
        if reservation.at == math.inf:
            self._spare[group] = 0
            return
        order = self._order(group)
        back = self._ending().get(group, ()) if order is None else order
        free = len(self.capacity.free[group]) + sum(count for end, count in back if end <= reservation.at)
        self._spare[group] = max(0, free - reservation.gpus)

    def _time(self, group: int, need: int) -> float:
        """When so many cards of a card group are free, by the latest that the running jobs are expected to end."""
        lacking = need - len(self.capacity.free[group])
        if lacking <= 0:
            return self.now
        order = self._order(group)
        for end, count in self._ending().get(group, ()) if order is None else order:
            lacking -= count
            if lacking <= 0:
                return max(end, self.now)
        return math.inf

    def _order(self, group: int) -> list[tuple[float, int]] | None:
        """When cards of a card group come back and how many, soonest first, where the index has it."""
        return None if self.claimed else self.index.ending(group)

    def _ending(self) -> dict[int, list[tuple[float, int]]]:
        """By card group, when cards come back and how many, soonest first."""
        if self._ends is None:
            self._ends = {}
            last: dict[int, float] = {}  # of a card that is shared, when the last of them is gone
            for job in self.running:
                end = latest(job, self.now)
                for gpu_id in job.gpu_ids:
                    last[gpu_id] = max(last.get(gpu_id, end), end)
            for gpu_id, end in last.items():
                if (
                    group := self.capacity.layout.group_of.get(gpu_id)
                ) is not None and gpu_id not in self.claimed:
                    self._ends.setdefault(group, []).append((end, 1))
            for entries in self._ends.values():
                entries.sort()
        return self._ends

    def allows(self, group: int, gpus: int, ends: float, owed: bool = False) -> bool:
        """Whether a job that ends then may use so many free cards of a card group.

        owed: its project is owed them, which goes before what would borrow.
        """
        held = self.by_group.get(group)
        if held is None or gpus <= self._spare[group] or (owed and not held.owed):
            return True
        if held.at == math.inf:
            return not held.drains
        if ends == math.inf:
            return not held.firm or self.now + self.rules.guess_s <= held.at
        return ends <= held.at

    def beside(self, group: int, gpus: int) -> None:
        """So many cards of a card group are available that no reservation counts on."""
        if group in self.by_group and group in self._spare:
            self._spare[group] += gpus

    def use(self, group: int, gpus: int, ends: float) -> None:
        """A job took free cards of a card group."""
        held = self.by_group.get(group)
        if held is not None and not ends <= held.at < math.inf:
            self._spare[group] -= gpus


def latest(job: RunningJob, now: float) -> float:
    """The latest that a running job is expected to give its cards back."""
    if job.stopping_until is not None:
        return max(now, job.stopping_until)
    if job.ends_at is None:
        return math.inf
    return now + max(0.0, job.ends_at - now) * (1 + job.spread)
