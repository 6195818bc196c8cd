"""Who is stopped so that another job can start: the fewest GPU-seconds lost, never for one that ranks no higher."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from jobs.memory.ladder import Choice
from orchestrator.scheduler.cache.running_index import PlanView, RunningIndex, ScoreThresholds
from orchestrator.scheduler.fleet import Gpu, Project, RunningJob
from orchestrator.scheduler.job_class import JobClass
from orchestrator.scheduler.placement.capacity import Capacity
from orchestrator.scheduler.policy import Ranked, Rules, attained, since

_Yielding = list[tuple[RunningJob, int]]
_Cost = tuple[tuple[int, float], list[RunningJob]]  # GPUs and how much they deserve it, before whom to stop
_SLACK_S = 1e-3  # that a time is taken earlier, so that rounding never makes it too late


@dataclass(frozen=True)
class Preemption:
    """What to do for a job: stop these, and keep these cards for it (by card group, some of them free already)."""

    stops: tuple[RunningJob, ...]
    parts: tuple[tuple[int, tuple[Gpu, ...]], ...]
    choice: Choice


class Rights(NamedTuple):
    """What decides, beside its score, which running jobs give way to a waiting one.

    project: its own, where projects have terms, None: whichever it may be; owed: it stays within what that is
    guaranteed; patient: it waited long enough for others of its priority to be stopped for it.
    """

    priority: int
    project: str | None
    owed: bool
    patient: bool


@dataclass
class VictimSearch:
    """The running jobs of a plan, and what each would be stopped for.

    promised: cards of nominations that are still to come back; soon: by card group, those that nobody was
    promised.
    """

    rules: Rules
    now: float
    capacity: Capacity
    index: RunningIndex
    projects: Mapping[str, Project]
    promised: Container[int] = ()
    soon: dict[int, list[Gpu]] = field(default_factory=dict)
    _worth: dict[int, float] = field(default_factory=dict)
    _gone: set[int] = field(default_factory=set)
    _touched: set[int] = field(default_factory=set)
    _soft: dict[tuple[int, bool], set[int]] = field(default_factory=dict)
    _leaving: dict[int, RunningJob] = field(default_factory=dict)
    _thresholds: dict[Rights, tuple[ScoreThresholds, PlanView]] = field(default_factory=dict)
    _numbers: dict[tuple[Rights, float], int] = field(default_factory=dict)  # of rights and score
    _known: dict[int, dict[int, _Yielding]] = field(default_factory=dict)  # by card group and that number
    _costs: dict[int, dict[int, tuple[int, _Cost | None]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        capacity = self.capacity
        self.index.refresh()
        for _, job in sorted(self.index.stopping.items()):
            if not capacity.to_itself(job):
                continue
            for gpu_id in job.gpu_ids:
                self._leaving[gpu_id] = job
                if (
                    group := capacity.layout.group_of.get(gpu_id)
                ) is not None and gpu_id not in self.promised:
                    self.soon.setdefault(group, []).append(capacity.layout.gpu_of[gpu_id])

    def worth(self, job: RunningJob) -> float:
        """What the policy goes by: the higher, the sooner it is stopped."""
        found = self._worth.get(job.job_id)
        if found is None:
            if self.rules.policy == "attained":
                found = float(self.rules.level(attained(job, self.now)))
            elif self.rules.policy == "shortest":
                found = self.rules.left_of(job, self.now)
            else:
                found = job.started_at
            self._worth[job.job_id] = found
        return found

    def rights(self, entry: Ranked) -> Rights:
        """Jobs of the same rights and the same score may stop the same ones."""
        compares = self.rules.policy in ("attained", "shortest")
        patient = compares and self.now - since(entry.job) >= self.rules.patience_s
        return Rights(entry.job.priority, entry.job.project if self.projects else "", entry.owed, patient)

    def limit(self, job: RunningJob, rights: Rights, in_time: bool = False) -> float:
        """The score below which a waiting job of these rights stops a running one: infinity, whatever its score.

        in_time: once it has run its minimum.
        """
        rules = self.rules
        soon = job.started_at > self.now - rules.min_run_s and not in_time
        if not job.movable or soon or not self.capacity.to_itself(job):
            return -math.inf
        if self.projects and job.project != rights.project:
            borrows = job.job_id in self.index.beyond[job.project]
            if rights.owed and borrows:
                return math.inf  # whatever the priorities: a guarantee is one
            if not rights.owed and not borrows and rights.project is not None:
                return -math.inf
        if job.priority != rights.priority:
            return math.inf if job.priority < rights.priority else -math.inf
        if not rights.patient:
            return -math.inf
        if rules.policy == "attained":
            return self.worth(job)
        if rules.policy == "shortest":
            lost = (rules.stop_s + rules.restart_s) * len(job.gpu_ids)
            return (self.worth(job) - lost) / rules.gain
        return -math.inf

    def threshold(self, job: RunningJob, rights: Rights) -> tuple[float, float]:
        """A limit that time alone does not raise, and until when that is so."""
        rules = self.rules
        if job.started_at > self.now - rules.min_run_s:
            return -math.inf, job.started_at + rules.min_run_s - _SLACK_S
        limit = self.limit(job, rights)
        if rules.policy == "attained" and math.isfinite(limit):
            had = attained(job, self.now)
            return limit, self.now + (rules.next_level_at(had) - had) / len(job.gpu_ids) - _SLACK_S
        if rules.policy == "shortest" and job.ends_at is None and limit > -math.inf:
            return math.inf, math.inf  # it grows all the time
        return limit, math.inf

    def clear(
        self, entry: Ranked, job_class: JobClass, reserved: Container[int] = (), mine: Container[int] = ()
    ) -> Preemption | None:
        """The cheapest way to make room for a job, None where there is none.

        reserved: card groups kept for others; mine: those where others were stopped for it already.
        """
        if job_class.gang:
            return self._clear_hosts(entry, job_class, reserved, mine) if job_class.across else None
        rights, score = self.rights(entry), entry.score
        at = self._number(rights, score)
        if self.soon:  # before anybody else is stopped: what comes back anyway, wherever it is
            for tier in job_class.tiers:
                enough = [
                    (group not in mine, -lacking, group)
                    for group in tier.groups
                    if group in self.soon
                    and (group in mine or group not in reserved)
                    and (lacking := self.lacking(group, job_class.gpus)) <= 0
                ]
                if enough:  # the fullest, as at a start: else the next plan might mix up whose is whose
                    return Preemption((), self._parts(min(enough)[2], (), job_class.gpus), tier.choice)
        for tier in job_class.tiers:
            best: tuple[int, float, int] | None = None
            chosen: list[RunningJob] = []
            for group in self._candidates(rights, score, self._some(rights, tier.groups), job_class.gpus):
                if group in reserved and group not in mine:
                    continue
                if (found := self._cheapest(rights, score, at, group, job_class.gpus)) is None:
                    continue
                key = (*found[0], group)
                if best is None or key < best:
                    best, chosen = key, found[1]
            if best is not None:
                return Preemption(tuple(chosen), self._parts(best[2], chosen, job_class.gpus), tier.choice)
        return None

    def lacking(self, group: int, need: int) -> int:
        """Cards of a card group that are neither free nor coming back."""
        return need - len(self.capacity.free[group]) - len(self.soon.get(group, ()))

    def _some(self, rights: Rights, groups: Sequence[int]) -> Sequence[int]:
        """Of these card groups, those where cards come back or somebody may give way, seen at a glance."""
        if rights.patient:
            return groups
        at = (rights.priority, rights.owed)
        known = self._soft.get(at)
        if known is None:
            known = {
                group for group in range(len(self.index.on)) if self.index.least(group) < rights.priority
            }
            if rights.owed:
                known |= self.index.lent()
            self._soft[at] = known
        return [group for group in groups if group in known or group in self.soon]

    def _candidates(
        self, rights: Rights, score: float, groups: Iterable[int], need: int | None = None, least: int = 1
    ) -> list[int]:
        """Of these card groups, those where it may get so many cards (None: all). In the others it can't."""
        if not self.index.lasting:
            rights = rights._replace(project=None)  # a bound for all projects: looked at once
        known = self._thresholds.get(rights)
        if known is None:
            look = PlanView(self.now, self.index, partial(self.threshold, rights=rights))
            known = self._thresholds[rights] = (self.index.thresholds_of(rights), look)
        return known[0].candidates(need, groups, score, known[1], self._touched, least)

    def _number(self, rights: Rights, score: float) -> int:
        """Looked up once a job, for what is kept by card group."""
        return self._numbers.setdefault((rights, score), len(self._numbers))

    def _yielding(self, rights: Rights, score: float, at: int, group: int) -> _Yielding:
        """The jobs of a card group that give way to it, each with how many of its cards are there."""
        here = self._known.setdefault(group, {})
        found = here.get(at)
        if found is None:
            gone = self._gone
            found = here[at] = [
                (job, count)
                for job, count in self.index.on[group].values()
                if job.stopping_until is None and job.job_id not in gone and score < self.limit(job, rights)
            ]
        return found

    def _cheapest(self, rights: Rights, score: float, at: int, group: int, need: int) -> _Cost | None:
        """Whom to stop in a card group, and before it the cost: GPUs, and how much they deserve it. Looked up once."""
        lacking = self.lacking(group, need)
        here = self._costs.setdefault(group, {})
        known = here.get(at)
        if known is not None and known[0] == lacking:
            return known[1]
        yielding = self._yielding(rights, score, at, group)
        found = self._fewest(yielding, lacking) if yielding else None
        cost = None
        if found is not None:
            least = min(map(self.worth, found), default=0.0)
            cost = ((sum(len(job.gpu_ids) for job in found), -least), found)
        here[at] = (lacking, cost)
        return cost

    def _fewest(self, yielding: Sequence[tuple[RunningJob, int]], lacking: int) -> list[RunningJob] | None:
        """Jobs of a card group whose cards there make up what lacks, None where there are not enough.

        One that is enough by itself, as small as can be; else the least deserving until it is enough.
        """
        if lacking <= 0:
            return []
        got = 0
        for _, count in yielding:
            got += count
        if got < lacking:
            return None
        worth = self.worth
        if lacking == 1:
            return [
                min(yielding, key=lambda pair: (len(pair[0].gpu_ids), -worth(pair[0]), pair[0].job_id))[0]
            ]
        several: list[tuple[RunningJob, int]] = []
        got = 0
        for pair in sorted(yielding, key=lambda pair: (-worth(pair[0]), -pair[1], pair[0].job_id)):
            several.append(pair)
            got += pair[1]
            if got >= lacking:
                break
        for pair in sorted(several, key=lambda pair: pair[1]):
            if got - pair[1] >= lacking:
                several.remove(pair)
                got -= pair[1]
        alone = [job for job, count in yielding if count >= lacking]
        if alone:
            least = min(alone, key=lambda job: (len(job.gpu_ids), -worth(job), job.job_id))
            if len(least.gpu_ids) <= sum(len(job.gpu_ids) for job, _ in several):
                return [least]
        return [job for job, _ in several]

    def _parts(
        self, group: int, stops: Sequence[RunningJob], need: int
    ) -> tuple[tuple[int, tuple[Gpu, ...]], ...]:
        """Cards to keep on a card group: first the free ones, then what comes back anyway, then what is cleared."""
        capacity = self.capacity
        cleared = [
            capacity.layout.gpu_of[gpu_id]
            for job in stops
            for gpu_id in job.gpu_ids
            if capacity.layout.group_of.get(gpu_id) == group
        ]
        return ((group, (*capacity.free[group], *self.soon.get(group, ()), *cleared)[:need]),)

    def _clear_hosts(
        self, entry: Ranked, job_class: JobClass, reserved: Container[int], mine: Container[int]
    ) -> Preemption | None:
        """Whole hosts, the cheapest to clear first, and so many cards of one more as remain."""
        rights, score, sizes = self.rights(entry), entry.score, self.capacity.layout.sizes
        # So many whole ones at least: what one more gives is less than all of the largest.
        least = -(-(job_class.gpus - job_class.most + 1) // job_class.most)
        for tier in job_class.tiers:
            left, stops = job_class.gpus, dict[int, RunningJob]()
            parts: list[tuple[int, tuple[Gpu, ...]]] = []
            candidates = self._candidates(rights, score, tier.groups, least=least)
            candidates = [group for group in candidates if group in mine or group not in reserved]
            whole, taken = (
                self._by_cost(rights, score, [(group, sizes[group]) for group in candidates]),
                set[int](),
            )
            whole.sort(key=lambda found: found[0] not in job_class.home)
            for group, found in whole:
                if sizes[group] > left:
                    continue
                stops |= {job.job_id: job for job in found}
                parts += self._parts(group, found, sizes[group])
                left -= sizes[group]
                taken.add(group)
            if left:
                candidates = self._candidates(rights, score, tier.groups, left)
                candidates = [group for group in candidates if group in mine or group not in reserved]
                rest = self._by_cost(
                    rights, score, [(group, left) for group in candidates if group not in taken]
                )
                if not rest:
                    continue
                group, found = rest[0]
                stops |= {job.job_id: job for job in found}
                parts += self._parts(group, found, left)
            if job_class.home and job_class.home.isdisjoint(group for group, _ in parts):
                continue
            return Preemption(tuple(stops.values()), tuple(parts), tier.choice)
        return None

    def awaited(self, preemption: Preemption) -> list[RunningJob]:
        """Jobs that were asked to stop before and whose cards are among those of a preemption."""
        now = {job.job_id for job in preemption.stops}
        found = {
            job.job_id: job
            for _, gpus in preemption.parts
            for gpu in gpus
            if (job := self._leaving.get(gpu.id)) is not None and job.job_id not in now
        }
        return [found[job_id] for job_id in sorted(found)]

    def _by_cost(
        self, rights: Rights, score: float, wanted: Iterable[tuple[int, int]]
    ) -> list[tuple[int, list[RunningJob]]]:
        """Card groups that so many cards can be cleared in, and whom to stop there, the fewest GPUs first."""
        costs: list[tuple[int, int, list[RunningJob]]] = []
        at = self._number(rights, score)
        for group, need in wanted:
            found = self._fewest(self._yielding(rights, score, at, group), self.lacking(group, need))
            if found is not None:
                costs.append((sum(len(job.gpu_ids) for job in found), group, found))
        costs.sort(key=lambda item: item[:2])
        return [(group, found) for _, group, found in costs]

    def keep(self, preemption: Preemption) -> None:
        """Nobody else gets the cards of a preemption; what its stops give back beside them is available soon."""
        promised = {gpu.id for _, gpus in preemption.parts for gpu in gpus}
        capacity = self.capacity
        capacity.take(promised)
        for group, gpus in preemption.parts:
            taken = {gpu.id for gpu in gpus}
            if group in self.soon:
                self.soon[group] = [gpu for gpu in self.soon[group] if gpu.id not in taken]
        for job in preemption.stops:
            for gpu_id in job.gpu_ids:
                group = capacity.layout.group_of[gpu_id]
                capacity.left_bytes.pop(gpu_id, None)  # nobody starts beside one that leaves
                self._leaving[gpu_id] = job
                if gpu_id not in promised:
                    self.soon.setdefault(group, []).append(capacity.layout.gpu_of[gpu_id])
            self._gone.add(job.job_id)
            for group, _ in capacity.layout.groups_of(job.gpu_ids):
                self._touched.add(group)
                self.look_again(group)
        for group, _ in preemption.parts:
            self._costs.pop(group, None)

    def close(self) -> None:
        """Nobody looks for victims any more."""
        self._thresholds.clear()

    def look_again(self, group: int) -> None:
        """Who gives way on a card group is another matter now."""
        self._known.pop(group, None)
        self._costs.pop(group, None)
