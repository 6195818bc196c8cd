"""Line: the queue in its order, kept from plan to plan: only what changed is ranked anew."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.scheduler.fair_share import QueueLanes
from orchestrator.scheduler.fleet import Project, Waiting
from orchestrator.scheduler.job_class import Kind
from orchestrator.scheduler.policy import Ranked, Rules, rank


@dataclass(slots=True)
class _Standing:
    """Where a job stands. kind: of its shape; entry: None while it may not start, whatever is free."""

    job: Waiting
    kind: Kind | None
    entry: Ranked | None


@dataclass(slots=True)
class Asked:
    """A kind of waiting jobs, and how many GPUs those of it ask for, by priority."""

    kind: Kind
    wanted: dict[int, int] = field(default_factory=dict)
    jobs: int = 0


@dataclass(frozen=True)
class Now:
    """What ranks depend on beside the jobs. held: GPUs by project; awaited: jobs that others were stopped for.

    kind: of a job, by its shape; at_home: the same of one that has a checkpoint, for as long as it goes only there.
    """

    at: float
    rules: Rules
    projects: Mapping[str, Project]
    held: Mapping[str, int]
    awaited: Collection[int]
    kind: Callable[[Waiting], Kind]
    at_home: Callable[[Waiting, Kind], Kind]


@dataclass
class Line:
    """The waiting jobs, ranked. Holds no truth: from nothing it comes to the same.

    told: whether the caller says who joins and leaves (a simulation), so that nobody need look for it. lanes: those
    that may start; asked: their kinds; aside: those that may not, whatever is free.
    """

    told: bool = False
    lanes: QueueLanes = field(default_factory=lambda: QueueLanes(False))
    asked: dict[int, Asked] = field(default_factory=dict)
    aside: dict[int, Waiting] = field(default_factory=dict)
    _standing: dict[int, _Standing] = field(default_factory=dict)
    _joined: list[Waiting] = field(default_factory=list)
    _until: list[tuple[float, int]] = field(default_factory=list)
    _alarms: dict[int, float] = field(default_factory=dict)
    _shapes: dict[Hashable, tuple[Kind, dict[int, None]]] = field(default_factory=dict)
    _restless: dict[int, None] = field(default_factory=dict)
    _of_project: dict[str, dict[int, None]] = field(default_factory=dict)
    _room: dict[str, int] = field(default_factory=dict)
    _awaited: frozenset[int] = frozenset()
    _terms: tuple[Rules, Mapping[str, Project]] | None = None
    _at: float = -math.inf

    def joins(self, job: Waiting) -> None:
        """It waits from now on."""
        self._joined.append(job)

    def leaves(self, job_id: int) -> None:
        """It waits no more."""
        self._drop(job_id)

    def entry(self, job_id: int) -> Ranked | None:
        """A job's rank; None where it does not wait for cards."""
        found = self._standing.get(job_id)
        return None if found is None else found.entry

    def look(self, queue: Collection[Waiting], now: Now) -> None:
        """Rank what is new, and what time or others have changed."""
        terms = (now.rules, now.projects)
        fresh = self._terms != terms or now.at < self._at
        if fresh:
            self._clear(now)
        self._at = now.at
        room = {
            name: terms.guarantee - now.held.get(name, 0)
            for name, terms in now.projects.items()
            if terms.guarantee is not None
        }
        moved = [name for name, gpus in room.items() if self._room.get(name) != gpus]
        self._room = room
        awaited = frozenset(now.awaited)
        changed = self._awaited ^ awaited
        self._awaited = awaited
        again = {*changed, *self._restless, *self._due(now.at), *self._owing(moved)}
        if not self.told:
            again.update(self._of_other_kinds(now))
        for job_id in again:
            found = self._standing.get(job_id)
            if found is not None:
                self._drop(job_id)
                self._add(found.job, now)
        self._see(queue if fresh or not self.told else self._joined, now)
        self._joined.clear()
        if len(self._standing) != len(queue):
            for job_id in self._standing.keys() - {job.job_id for job in queue}:
                self._drop(job_id)

    def _see(self, jobs: Iterable[Waiting], now: Now) -> None:
        known = self._standing
        for job in jobs:
            found = known.get(job.job_id)
            if found is None:
                self._add(job, now)
            elif found.job is not job:
                self._drop(job.job_id)
                self._add(job, now)

    def _due(self, now: float) -> list[int]:
        """Jobs whose rank time may have changed."""
        due = []
        while self._until and self._until[0][0] <= now:
            at, job_id = heapq.heappop(self._until)
            if self._alarms.get(job_id) == at:
                del self._alarms[job_id]
                due.append(job_id)
        return due

    def _owing(self, projects: Iterable[str]) -> list[int]:
        """Jobs of these projects that are owed their cards now, or no more."""
        return [
            job_id
            for name in projects
            for job_id in self._of_project.get(name, ())
            if (entry := self._standing[job_id].entry) is not None
            and entry.owed is not self._owed(name, entry.kind.gpus)
        ]

    def _owed(self, project: str, gpus: int) -> bool:
        return gpus <= self._room.get(project, -1)

    def _of_other_kinds(self, now: Now) -> list[int]:
        """Jobs whose shape fits other cards than it did."""
        found: list[int] = []
        for kind, jobs in self._shapes.values():
            if now.kind(self._standing[next(iter(jobs))].job) is not kind:
                found += jobs
        return found

    def _add(self, job: Waiting, now: Now) -> None:
        job_id, rules = job.job_id, now.rules
        kind = now.kind(job) if job.not_before <= now.at and job.blocked is None else None
        made = self._standing[job_id] = _Standing(job, kind, None)
        until = math.inf
        if kind is None or not kind.tiers:
            self.aside[job_id] = job
            if job.not_before > now.at:
                until = job.not_before
        else:
            own = kind if job.home is None else now.at_home(job, kind)
            owed = bool(self._room) and self._owed(job.project, own.gpus)
            made.entry = rank(job, own, rules, now.at, owed, job_id in self._awaited, bool(now.projects))
            until = rules.same_until(job, now.at)
            self._count(made.entry, 1)
            self.lanes.add(made.entry)
            if self._room:
                self._of_project.setdefault(job.project, {})[job_id] = None
        if (
            until < math.inf and self._alarms.get(job_id) != until
        ):  # one that is ranked again and again has one
            self._alarms[job_id] = until
            heapq.heappush(self._until, (until, job_id))
        if kind is None:
            return
        if job.shape is None or job.home is not None:
            self._restless[job_id] = None
        if job.shape is not None:
            self._shapes.setdefault(job.shape, (kind, {}))[1][job_id] = None

    def _drop(self, job_id: int) -> None:
        found = self._standing.pop(job_id, None)
        if found is None:
            self._joined = [job for job in self._joined if job.job_id != job_id]
            return
        job = found.job
        self.aside.pop(job_id, None)
        self._restless.pop(job_id, None)
        if found.entry is not None:
            self._count(found.entry, -1)
            self.lanes.remove(found.entry)
            if self._room:
                self._of_project.get(job.project, {}).pop(job_id, None)
        if found.kind is not None and job.shape is not None:
            jobs = self._shapes[job.shape][1]
            del jobs[job_id]
            if not jobs:
                del self._shapes[job.shape]

    def _count(self, entry: Ranked, by: int) -> None:
        kind, priority = entry.kind, entry.job.priority
        asked = self.asked.get(id(kind))
        if asked is None:
            asked = self.asked[id(kind)] = Asked(kind)
        asked.jobs += by
        asked.wanted[priority] = asked.wanted.get(priority, 0) + by * kind.gpus
        if not asked.jobs:
            del self.asked[id(kind)]

    def _clear(self, now: Now) -> None:
        """Begin anew, under these rules and terms."""
        self._terms = (now.rules, dict(now.projects))
        self.lanes = QueueLanes(now.rules.policy == "fair")
        self._until, self._room, self._awaited = [], {}, frozenset()
        for one in (
            self.asked,
            self.aside,
            self._alarms,
            self._standing,
            self._shapes,
            self._restless,
            self._of_project,
        ):
            one.clear()
