"""The running jobs by card group and by project, and how far ahead a pending job must be to stop some."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.scheduler.fleet import Gpu, Project, RunningJob

MOST_LOG = 10_000
Limit = Callable[[RunningJob], tuple[float, float]]


@dataclass
class ScoreThresholds:
    """By card group, the score that waiting jobs of the same rights must stay below to get so many of its cards.

    by_count: the score by card group, for no card, one, two ...; whole: for all of a card group. A threshold may be too
    high, never too low: it falls with time, and is looked at again where it may have risen: after until (by card
    group), and where a job began or ended (until is past). at: when each was looked at; seen: how much of the index's
    log.
    """

    by_count: list[list[float]]
    whole: list[float]
    until: list[float]
    at: list[float]
    seen: int

    @classmethod
    def over(cls, groups: int, most: int, seen: int) -> ScoreThresholds:
        """For so many card groups of at most so many cards, all to be looked at."""
        by_count = [[-math.inf] * groups for _ in range(most + 1)]
        return cls(by_count, [-math.inf] * groups, [-math.inf] * groups, [math.nan] * groups, seen)

    def candidates(
        self,
        count: int | None,
        groups: Iterable[int],
        score: float,
        look: PlanView,
        also: Container[int],
        least: int = 1,
    ) -> list[int]:
        """Of these card groups, those whose threshold the score stays below, none where they are fewer than least.

        count: of cards, None: all; also: card groups that are taken as well.
        """
        if count is not None and count >= len(self.by_count):
            return []
        thresholds = self.whole if count is None else self.by_count[count]
        until, at, now, log = self.until, self.at, look.now, look.index.log
        if self.seen < len(log):
            for group in log[self.seen :]:
                until[group], at[group] = -math.inf, math.nan
            self.seen = len(log)
        maybe = [
            group for group in groups if thresholds[group] > score or until[group] <= now or group in also
        ]
        if len(maybe) < least:
            return []
        for group in maybe:
            if at[group] != now:
                look.index.measure(group, self, look)
        found = [group for group in maybe if thresholds[group] > score or group in also]
        return found if len(found) >= least else []


@dataclass(frozen=True)
class Promised:
    """Cards that others were stopped for, by the job that they are promised to; coming: those not given back yet."""

    cards: Mapping[int, Sequence[int]]
    coming: frozenset[int]


@dataclass(slots=True)
class PlanView:
    """A plan's view. limit: of a running job, the score below which others stop it, and until when it can't rise."""

    now: float
    index: RunningIndex
    limit: Limit


@dataclass
class RunningIndex:
    """Who runs where.

    free: by card group, the cards that nobody holds, as the capacity has them; on: by card group, its jobs with how
    many cards of it they have; held: GPUs by project, those that are being given back left out; beyond: by project, the
    jobs that hold more than it is guaranteed: those that began last. thresholds: kept while the rules stay as they are,
    and worked out where a plan looks; log: card groups where something changed; lasting: whether it is kept from plan
    to plan, so that it pays to work thresholds out for each project.
    """

    free: Sequence[Sequence[Gpu]]
    sizes: Sequence[int]
    groups_of: Callable[[tuple[int, ...]], tuple[tuple[int, int], ...]] = field(compare=False)
    on: list[dict[int, tuple[RunningJob, int]]] = field(default_factory=list)
    held: dict[str, int] = field(default_factory=dict)
    stopping: dict[int, RunningJob] = field(default_factory=dict)
    beyond: dict[str, set[int]] = field(default_factory=dict, compare=False)
    thresholds: dict[Hashable, ScoreThresholds] = field(default_factory=dict, compare=False)
    log: list[int] = field(default_factory=list, compare=False)
    lasting: bool = False
    _least: dict[int, int] = field(default_factory=dict, compare=False)
    _ending: dict[int, list[tuple[float, int]] | None] = field(default_factory=dict, compare=False)
    _of: dict[str, dict[int, RunningJob]] = field(default_factory=dict)
    _priorities: Counter[int] = field(default_factory=Counter)
    _moved: set[str] = field(default_factory=set, compare=False)
    _terms: tuple[object, Mapping[str, Project]] | None = None
    _now: float = -math.inf

    @classmethod
    def of(
        cls,
        running: Iterable[RunningJob],
        free: Sequence[Sequence[Gpu]],
        sizes: Sequence[int],
        groups_of: Callable[[tuple[int, ...]], tuple[tuple[int, int], ...]],
    ) -> RunningIndex:
        made = cls(free, sizes, groups_of, [{} for _ in free])
        for job in running:
            made.started(job)
        return made

    def started(self, job: RunningJob) -> None:
        """A job has cards from now on."""
        for group, count in self.groups_of(job.gpu_ids):
            self.on[group][job.job_id] = (job, count)
            self.log.append(group)
            self._ending.pop(group, None)
            self._least.pop(group, None)
        self._of.setdefault(job.project, {})[job.job_id] = job
        self._moved.add(job.project)
        if job.stopping_until is None:
            self.held[job.project] = self.held.get(job.project, 0) + len(job.gpu_ids)
            self._priorities[job.priority] += 1
        else:
            self.stopping[job.job_id] = job

    def ended(self, job: RunningJob) -> None:
        """It has given them back."""
        for group, _ in self.groups_of(job.gpu_ids):
            del self.on[group][job.job_id]
            self.log.append(group)
            self._ending.pop(group, None)
            self._least.pop(group, None)
        del self._of[job.project][job.job_id]
        self._moved.add(job.project)
        if job.stopping_until is None:
            self.held[job.project] -= len(job.gpu_ids)
            self._priorities[job.priority] -= 1
        else:
            del self.stopping[job.job_id]

    def changed(self, before: RunningJob, after: RunningJob) -> None:
        """What is known of a job is another now."""
        self.ended(before)
        self.started(after)

    def least(self, group: int) -> int:
        """The least priority of the jobs of a card group."""
        found = self._least.get(group)
        if found is None:
            found = self._least[group] = min(
                (job.priority for job, _ in self.on[group].values()), default=100
            )
        return found

    def lent(self) -> set[int]:
        """Card groups of jobs that hold more than their project is guaranteed."""
        jobs = (self._of[name][job_id] for name, job_ids in self.beyond.items() for job_id in job_ids)
        return {group for job in jobs for group, _ in self.groups_of(job.gpu_ids)}

    def ending(self, group: int) -> list[tuple[float, int]] | None:
        """When a card group's jobs end, soonest first, with how many cards each gives back.

        None where that changes with time: where one is not sure, or where jobs share cards.
        """
        if group not in self._ending:
            jobs = self.on[group].values()
            sure = all(job.stopping_until is None and not job.spread and not job.shares for job, _ in jobs)
            ends = [(math.inf if job.ends_at is None else job.ends_at, count) for job, count in jobs]
            self._ending[group] = sorted(ends) if sure else None
        return self._ending[group]

    @property
    def lowest(self) -> int:
        """The least priority of what runs, -1 where a job is being stopped."""
        if self.stopping:
            return -1
        return min((priority for priority, jobs in self._priorities.items() if jobs), default=100)

    def promised(self, cleared: Mapping[int, int], to_itself: Callable[[RunningJob], bool]) -> Promised:
        """What is cleared, and was (cleared: card -> job). to_itself: whether a job has its cards to itself."""
        cards: dict[int, list[int]] = {}
        coming: set[int] = set()
        for job in self.stopping.values():
            if job.stopping_for is not None and to_itself(job):
                cards.setdefault(job.stopping_for, []).extend(job.gpu_ids)
                coming.update(job.gpu_ids)
        for gpu_id, job_id in cleared.items():
            cards.setdefault(job_id, []).append(gpu_id)
        return Promised(cards, frozenset(coming))

    def ready(self, rules: object, projects: Mapping[str, Project], now: float) -> None:
        """Before a plan: what is kept holds for these rules and terms, and for no earlier time."""
        if self._terms is None or self._terms != (rules, projects) or now < self._now:
            self._terms = (rules, dict(projects))
            self._moved.update(self._of)
            self.thresholds.clear()
        if len(self.log) > MOST_LOG:
            self.log.clear()
            self.thresholds.clear()
        self._now = now

    def refresh(self) -> None:
        """Work out who holds more than is guaranteed, where that may have changed: before it is looked at."""
        projects = self._terms[1] if self._terms else {}
        for name in self._moved if projects else ():
            self._see_who_borrows(name, projects.get(name))
        self._moved.clear()

    def _see_who_borrows(self, name: str, terms: Project | None) -> None:
        """All jobs are beyond the guarantee of a project that has none."""
        guaranteed = (terms.guarantee or 0) if terms else 0
        beyond: set[int] = set()
        held, jobs = 0, self._of.get(name, {})
        for job in sorted(jobs.values(), key=lambda job: (job.started_at, job.job_id)):
            if job.stopping_until is None:
                held += len(job.gpu_ids)
            if held > guaranteed:
                beyond.add(job.job_id)
        for job_id in beyond ^ self.beyond.get(name, set()):
            if (known := jobs.get(job_id)) is not None:
                self.log += [group for group, _ in self.groups_of(known.gpu_ids)]
        self.beyond[name] = beyond

    def thresholds_of(self, rights: Hashable) -> ScoreThresholds:
        """The thresholds for waiting jobs of the same rights."""
        found = self.thresholds.get(rights)
        if found is None:
            found = self.thresholds[rights] = ScoreThresholds.over(
                len(self.sizes), max(self.sizes, default=0), len(self.log)
            )
        return found

    def measure(self, group: int, thresholds: ScoreThresholds, look: PlanView) -> None:
        """Look at the thresholds of a card group again."""
        have, until = len(self.free[group]), math.inf
        limits: list[tuple[float, int]] = []
        for job, count in self.on[group].values():
            if job.stopping_until is None:
                limit, rises = look.limit(job)
                if rises < until:
                    until = rises
                if limit > -math.inf:
                    limits.append((limit, count))
            else:
                have += count
        limits.sort(reverse=True)
        limits.append((-math.inf, len(thresholds.by_count)))
        threshold, by_limit = math.inf, iter(limits)
        for count, by_group in enumerate(thresholds.by_count):
            while have < count:
                threshold, more = next(by_limit)
                have += more
            by_group[group] = threshold
        thresholds.whole[group] = thresholds.by_count[self.sizes[group]][group]
        thresholds.until[group], thresholds.at[group] = until, look.now
