"""The pending jobs in their order, kept from plan to plan: only what changed is ranked again."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.scheduler.fair_share import QueueLanes
from orchestrator.scheduler.fleet import PendingJob, Project
from orchestrator.scheduler.job_class import Demand, JobClass
from orchestrator.scheduler.policy import Ranked, Rules, rank


@dataclass(slots=True)
class _Standing:
    """Where a job stands. job_class: of its shape; entry: None while it may not start, whatever is free."""

    job: PendingJob
    job_class: JobClass | None
    entry: Ranked | None


@dataclass(frozen=True)
class RankContext:
    """What ranks depend on beside the jobs. held: GPUs by project; nominated: jobs that others were stopped for.

    class_of: a job's class, by its shape; at_home: the same of one that has a checkpoint, for as long as it goes only
    there.
    """

    at: float
    rules: Rules
    projects: Mapping[str, Project]
    held: Mapping[str, int]
    nominated: Collection[int]
    class_of: Callable[[PendingJob], JobClass]
    at_home: Callable[[PendingJob, JobClass], JobClass]


@dataclass
class PendingQueue:
    """The waiting jobs, ranked. Holds no truth: from nothing it comes to the same.

    lanes: those that may start; demand: what they ask for, by class; inadmissible: those that may not, whatever is
    free.
    """

    lanes: QueueLanes = field(default_factory=lambda: QueueLanes(False))
    demand: dict[int, Demand] = field(default_factory=dict)
    inadmissible: dict[int, PendingJob] = field(default_factory=dict)
    _standing: dict[int, _Standing] = field(default_factory=dict)
    _joined: dict[int, PendingJob] = field(default_factory=dict)
    _reclass: bool = False
    _until: list[tuple[float, int]] = field(default_factory=list)
    _alarms: dict[int, float] = field(default_factory=dict)
    _shapes: dict[Hashable, tuple[JobClass, dict[int, None]]] = field(default_factory=dict)
    _restless: dict[int, None] = field(default_factory=dict)
    _of_project: dict[str, dict[int, None]] = field(default_factory=dict)
    _guarantee_left: dict[str, int] = field(default_factory=dict)
    _nominated: frozenset[int] = frozenset()
    _terms: tuple[Rules, Mapping[str, Project]] | None = None
    _at: float = -math.inf

    def submitted(self, job: PendingJob) -> None:
        """It waits from now on, or is another than it was."""
        self._joined[job.job_id] = job

    def left(self, job_id: int) -> None:
        """It no longer waits."""
        self._joined.pop(job_id, None)
        self._drop(job_id)

    def observe(self, queue: Collection[PendingJob]) -> None:
        """These wait, and no other: who joined, who left, and whose shape may fit other cards than it did."""
        self._joined.clear()
        known, new = self._standing, 0
        for job in queue:
            found = known.get(job.job_id)
            if found is None or not _same(found.job, job):
                self._joined[job.job_id] = job
                new += found is None
        if len(known) + new != len(queue):
            for job_id in known.keys() - {job.job_id for job in queue}:
                self._drop(job_id)
        self._reclass = True

    def entry(self, job_id: int) -> Ranked | None:
        """A job's rank; None where it does not wait for cards."""
        found = self._standing.get(job_id)
        return None if found is None else found.entry

    def look(self, now: RankContext) -> None:
        """Rank what is new, and what time or others have changed."""
        if self._terms != (now.rules, now.projects) or now.at < self._at:
            self._clear(now)
        self._at = now.at
        left = {
            name: terms.guarantee - now.held.get(name, 0)
            for name, terms in now.projects.items()
            if terms.guarantee is not None
        }
        moved = [name for name, gpus in left.items() if self._guarantee_left.get(name) != gpus]
        self._guarantee_left = left
        nominated = frozenset(now.nominated)
        changed = self._nominated ^ nominated
        self._nominated = nominated
        again = {*changed, *self._restless, *self._due(now.at), *self._owing(moved)}
        if self._reclass:
            again.update(self._of_other_classes(now))
            self._reclass = False
        for job_id in again - self._joined.keys():
            found = self._standing.get(job_id)
            if found is not None:
                self._drop(job_id)
                self._add(found.job, now)
        for job in self._joined.values():
            self._drop(job.job_id)
            self._add(job, now)
        self._joined.clear()

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
        """Jobs of these projects that are owed their cards now, or no longer are."""
        return [
            job_id
            for name in projects
            for job_id in self._of_project.get(name, ())
            if (entry := self._standing[job_id].entry) is not None
            and entry.owed is not self._owed(name, entry.job_class.gpus)
        ]

    def _owed(self, project: str, gpus: int) -> bool:
        return gpus <= self._guarantee_left.get(project, -1)

    def _of_other_classes(self, now: RankContext) -> list[int]:
        """Jobs whose shape fits other cards than it did."""
        found: list[int] = []
        for job_class, jobs in self._shapes.values():
            made = now.class_of(self._standing[next(iter(jobs))].job)
            if made.number != job_class.number:
                found += jobs
        return found

    def _add(self, job: PendingJob, now: RankContext) -> None:
        job_id, rules = job.job_id, now.rules
        job_class = now.class_of(job) if job.not_before <= now.at and job.blocked is None else None
        made = self._standing[job_id] = _Standing(job, job_class, None)
        until = math.inf
        if job_class is None or not job_class.tiers:
            self.inadmissible[job_id] = job
            if job.not_before > now.at:
                until = job.not_before
        else:
            own = job_class if job.home is None else now.at_home(job, job_class)
            owed = bool(self._guarantee_left) and self._owed(job.project, own.gpus)
            made.entry = rank(job, own, rules, now.at, owed, job_id in self._nominated, bool(now.projects))
            until = rules.same_until(job, now.at)
            self._count(made.entry, 1)
            self.lanes.add(made.entry)
            if self._guarantee_left:
                self._of_project.setdefault(job.project, {})[job_id] = None
        if (
            until < math.inf and self._alarms.get(job_id) != until
        ):  # one that is ranked again and again has one
            self._alarms[job_id] = until
            heapq.heappush(self._until, (until, job_id))
        if job_class is None:
            return
        if job.shape is None or job.home is not None:
            self._restless[job_id] = None
        if job.shape is not None:
            self._shapes.setdefault(job.shape, (job_class, {}))[1][job_id] = None

    def _drop(self, job_id: int) -> None:
        found = self._standing.pop(job_id, None)
        if found is None:
            return
        job = found.job
        self.inadmissible.pop(job_id, None)
        self._restless.pop(job_id, None)
        if found.entry is not None:
            self._count(found.entry, -1)
            self.lanes.remove(found.entry)
            if self._guarantee_left:
                self._of_project.get(job.project, {}).pop(job_id, None)
        if found.job_class is not None and job.shape is not None:
            jobs = self._shapes[job.shape][1]
            del jobs[job_id]
            if not jobs:
                del self._shapes[job.shape]

    def _count(self, entry: Ranked, by: int) -> None:
        job_class, priority = entry.job_class, entry.job.priority
        demand = self.demand.get(job_class.number)
        if demand is None:
            demand = self.demand[job_class.number] = Demand(job_class)
        demand.jobs += by
        demand.wanted[priority] = demand.wanted.get(priority, 0) + by * job_class.gpus
        if not demand.jobs:
            del self.demand[job_class.number]

    def _clear(self, now: RankContext) -> None:
        """Rank all of them again, under these rules and terms."""
        self._terms = (now.rules, dict(now.projects))
        self._joined = {job_id: found.job for job_id, found in self._standing.items()} | self._joined
        self.lanes = QueueLanes(now.rules.policy == "fair")
        self._until, self._guarantee_left, self._nominated = [], {}, frozenset()
        for one in (
            self.demand,
            self.inadmissible,
            self._alarms,
            self._standing,
            self._shapes,
            self._restless,
            self._of_project,
        ):
            one.clear()


def _same(known: PendingJob, job: PendingJob) -> bool:
    """Whether a job is what it was: by its generation, by value where nobody counts them."""
    if known.generation or job.generation:
        return known.generation == job.generation
    return known is job or known == job
