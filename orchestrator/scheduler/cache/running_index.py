"""The running jobs by shelf and by project, and how far a waiting job must be ahead to get cards of a shelf."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.scheduler.fleet import Gpu, Project, Running

MOST_LOG = 10_000
Limit = Callable[[Running], tuple[float, float]]


@dataclass
class ScoreBars:
    """By shelf, the score that waiting jobs of the same rights must stay below to get so many of its cards.

    by_count: shelf -> score, for one card, two ...; whole: for all of a shelf. A bar may be too high, never too low: it
    falls with time, and is looked at again where it may have risen: after until (by shelf), and where a job began or
    ended (until is past). at: when each was looked at; seen: how much of the index's log.
    """

    by_count: list[list[float]]
    whole: list[float]
    until: list[float]
    at: list[float]
    seen: int

    @classmethod
    def over(cls, shelves: int, most: int, seen: int) -> ScoreBars:
        """For so many shelves of at most so many cards, all to be looked at."""
        by_count = [[-math.inf] * shelves for _ in range(most + 1)]
        return cls(by_count, [-math.inf] * shelves, [-math.inf] * shelves, [math.nan] * shelves, seen)

    def near(
        self,
        count: int | None,
        shelves: Iterable[int],
        score: float,
        look: Look,
        also: Container[int],
        least: int = 1,
    ) -> list[int]:
        """Of these shelves, those whose bar the score stays below, none where they are fewer than least.

        count: of cards, None: all; also: shelves that are taken as well.
        """
        if count is not None and count >= len(self.by_count):
            return []
        bars = self.whole if count is None else self.by_count[count]
        until, at, now, log = self.until, self.at, look.now, look.index.log
        if self.seen < len(log):
            for place in log[self.seen :]:
                until[place], at[place] = -math.inf, math.nan
            self.seen = len(log)
        maybe = [place for place in shelves if bars[place] > score or until[place] <= now or place in also]
        if len(maybe) < least:
            return []
        for place in maybe:
            if at[place] != now:
                look.index.measure(place, self, look)
        found = [place for place in maybe if bars[place] > score or place in also]
        return found if len(found) >= least else []


@dataclass(frozen=True)
class Promised:
    """Cards that others were stopped for, by the job that they are promised to; coming: those not given back yet."""

    cards: Mapping[int, Sequence[int]]
    coming: frozenset[int]


@dataclass(slots=True)
class Look:
    """A plan's view. limit: of a running job, the score below which others stop it, and until when it can't rise."""

    now: float
    index: RunningIndex
    limit: Limit


@dataclass
class RunningIndex:
    """Who runs where.

    free: by shelf, the cards that nobody holds, as the capacity has them; on: by shelf, its jobs with how many cards
    of it they have; held: GPUs by project, those that are being given back left out; beyond: by project, the jobs that
    hold more than it is guaranteed: those that began last. bars: kept while the rules stay as they are, and worked out
    where a plan looks; log: shelves where something changed; lasting: whether it is kept from plan to plan, so that it
    pays to work bars out for each project.
    """

    free: Sequence[Sequence[Gpu]]
    sizes: Sequence[int]
    places: Callable[[tuple[int, ...]], tuple[tuple[int, int], ...]] = field(compare=False)
    on: list[dict[int, tuple[Running, int]]] = field(default_factory=list)
    held: dict[str, int] = field(default_factory=dict)
    stopping: dict[int, Running] = field(default_factory=dict)
    beyond: dict[str, set[int]] = field(default_factory=dict, compare=False)
    bars: dict[Hashable, ScoreBars] = field(default_factory=dict, compare=False)
    log: list[int] = field(default_factory=list, compare=False)
    lasting: bool = False
    _least: dict[int, int] = field(default_factory=dict, compare=False)
    _ending: dict[int, list[tuple[float, int]] | None] = field(default_factory=dict, compare=False)
    _of: dict[str, dict[int, Running]] = field(default_factory=dict)
    _priorities: Counter[int] = field(default_factory=Counter)
    _moved: set[str] = field(default_factory=set, compare=False)
    _terms: tuple[object, Mapping[str, Project]] | None = None
    _now: float = -math.inf

    @classmethod
    def of(
        cls,
        running: Iterable[Running],
        free: Sequence[Sequence[Gpu]],
        sizes: Sequence[int],
        places: Callable[[tuple[int, ...]], tuple[tuple[int, int], ...]],
    ) -> RunningIndex:
        made = cls(free, sizes, places, [{} for _ in free])
        for job in running:
            made.started(job)
        return made

    def started(self, job: Running) -> None:
        """A job has cards from now on."""
        for place, count in self.places(job.gpu_ids):
            self.on[place][job.job_id] = (job, count)
            self.log.append(place)
            self._ending.pop(place, None)
            self._least.pop(place, None)
        self._of.setdefault(job.project, {})[job.job_id] = job
        self._moved.add(job.project)
        if job.stopping_until is None:
            self.held[job.project] = self.held.get(job.project, 0) + len(job.gpu_ids)
            self._priorities[job.priority] += 1
        else:
            self.stopping[job.job_id] = job

    def ended(self, job: Running) -> None:
        """It has given them back."""
        for place, _ in self.places(job.gpu_ids):
            del self.on[place][job.job_id]
            self.log.append(place)
            self._ending.pop(place, None)
            self._least.pop(place, None)
        del self._of[job.project][job.job_id]
        self._moved.add(job.project)
        if job.stopping_until is None:
            self.held[job.project] -= len(job.gpu_ids)
            self._priorities[job.priority] -= 1
        else:
            del self.stopping[job.job_id]

    def changed(self, before: Running, after: Running) -> None:
        """What is known of a job is another now."""
        self.ended(before)
        self.started(after)

    def least(self, place: int) -> int:
        """The least priority of the jobs of a shelf."""
        found = self._least.get(place)
        if found is None:
            found = self._least[place] = min(
                (job.priority for job, _ in self.on[place].values()), default=100
            )
        return found

    def lent(self) -> set[int]:
        """Shelves of jobs that hold more than their project is guaranteed."""
        jobs = (self._of[name][job_id] for name, job_ids in self.beyond.items() for job_id in job_ids)
        return {place for job in jobs for place, _ in self.places(job.gpu_ids)}

    def ending(self, place: int) -> list[tuple[float, int]] | None:
        """The ends of a shelf's jobs, soonest first, with how many cards each gives back. None: they change with time.

        So they do where one is not sure, or where jobs share cards.
        """
        if place not in self._ending:
            jobs = self.on[place].values()
            sure = all(job.stopping_until is None and not job.spread and not job.shares for job, _ in jobs)
            ends = [(math.inf if job.ends_at is None else job.ends_at, count) for job, count in jobs]
            self._ending[place] = sorted(ends) if sure else None
        return self._ending[place]

    @property
    def lowest(self) -> int:
        """The least priority of what runs, -1 where a job is being stopped."""
        if self.stopping:
            return -1
        return min((priority for priority, jobs in self._priorities.items() if jobs), default=100)

    def promised(self, cleared: Mapping[int, int], to_itself: Callable[[Running], bool]) -> Promised:
        """What is cleared, and was (cleared: card -> job). to_itself: whether nobody else lies on a job's cards."""
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
            self.bars.clear()
        if len(self.log) > MOST_LOG:
            self.log.clear()
            self.bars.clear()
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
                self.log += [place for place, _ in self.places(known.gpu_ids)]
        self.beyond[name] = beyond

    def bars_of(self, rights: Hashable) -> ScoreBars:
        """The bars for waiting jobs of the same rights."""
        found = self.bars.get(rights)
        if found is None:
            found = self.bars[rights] = ScoreBars.over(
                len(self.sizes), max(self.sizes, default=0), len(self.log)
            )
        return found

    def measure(self, place: int, bars: ScoreBars, look: Look) -> None:
        """Look at the bars of a shelf again."""
        have, until = len(self.free[place]), math.inf
        limits: list[tuple[float, int]] = []
        for job, count in self.on[place].values():
            if job.stopping_until is None:
                limit, rises = look.limit(job)
                if rises < until:
                    until = rises
                if limit > -math.inf:
                    limits.append((limit, count))
            else:
                have += count
        limits.sort(reverse=True)
        limits.append((-math.inf, len(bars.by_count)))
        bar, by_limit = math.inf, iter(limits)
        for count, by_place in enumerate(bars.by_count):
            while have < count:
                bar, more = next(by_limit)
                have += more
            by_place[place] = bar
        bars.whole[place] = bars.by_count[self.sizes[place]][place]
        bars.until[place], bars.at[place] = until, look.now
