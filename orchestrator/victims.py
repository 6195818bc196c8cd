"""Who is stopped so that another job can start: the fewest GPU-seconds lost, never for one that ranks no higher."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from jobs.ladder import Choice
from orchestrator.fleet import Gpu, Project, Running
from orchestrator.kinds import Kind
from orchestrator.order import Ranked, Rules, attained, since
from orchestrator.stock import Stock

_ByShelf = dict[int, list[tuple[Running, int]]]


@dataclass(frozen=True)
class Clearing:
    """What to do for a job: stop these, and keep these cards for it (shelf -> cards, some of them free already)."""

    stops: tuple[Running, ...]
    parts: tuple[tuple[int, tuple[Gpu, ...]], ...]
    choice: Choice


@dataclass
class Bench:
    """The running jobs of a plan by shelf, and what each would be stopped for.

    soon: by shelf, cards of jobs that are stopping already and that nobody was promised; borrowed: jobs beyond what
    their project is guaranteed, where projects have guarantees; worth: what the policy goes by, of each job that may be
    stopped at all.
    """

    rules: Rules
    now: float
    stock: Stock
    running: Iterable[Running]
    projects: Mapping[str, Project]
    soon: dict[int, list[Gpu]] = field(default_factory=dict)
    borrowed: set[int] = field(default_factory=set)
    worth: dict[int, float] = field(default_factory=dict)
    _stoppable: list[Running] = field(default_factory=list)
    _known: dict[Hashable, _ByShelf] = field(default_factory=dict)
    _costs: dict[tuple[Hashable, int], tuple[int, tuple[tuple[int, float], list[Running]] | None]] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        stock, old_enough = self.stock, self.now - self.rules.min_run_s
        for job in self.running:
            if job.stopping_until is None:
                if job.movable and not job.shares and job.started_at <= old_enough:
                    self.worth[job.job_id] = self._worth(job)
                    self._stoppable.append(job)
            elif not job.shares:
                for gpu_id in job.gpu_ids:
                    if (place := stock.shelf_of.get(gpu_id)) is not None:
                        self.soon.setdefault(place, []).append(stock.gpu_of[gpu_id])
        if self.projects:
            self._see_who_borrows()

    def _see_who_borrows(self) -> None:
        """The jobs that started last are the ones beyond a guarantee; all are of a project that has none."""
        held: dict[str, int] = {}
        for job in sorted(self.running, key=lambda job: (job.started_at, job.job_id)):
            terms = self.projects.get(job.project)
            if job.stopping_until is None:
                held[job.project] = held.get(job.project, 0) + len(job.gpu_ids)
            if held.get(job.project, 0) > ((terms.guarantee or 0) if terms else 0):
                self.borrowed.add(job.job_id)

    def _worth(self, job: Running) -> float:
        """What the policy goes by: the higher, the sooner it is stopped."""
        if self.rules.policy == "attained":
            return float(self.rules.level(attained(job, self.now)))
        if self.rules.policy == "shortest":
            return self.rules.left_of(job, self.now)
        return job.started_at

    def yields(self, job: Running, entry: Ranked) -> bool:
        """Whether a running job may be stopped for a waiting one."""
        if self.projects and job.project != entry.job.project:
            borrows = job.job_id in self.borrowed
            if entry.owed and borrows:
                return True  # whatever the priorities: a guarantee is one
            if not entry.owed and not borrows:
                return False
        if job.priority != entry.job.priority:
            return job.priority < entry.job.priority
        if self.now - since(entry.job) < self.rules.patience_s:
            return False
        if self.rules.policy == "attained":
            return self.worth[job.job_id] > entry.score
        if self.rules.policy == "shortest":
            lost = (self.rules.stop_s + self.rules.restart_s) * len(job.gpu_ids)
            return self.worth[job.job_id] > self.rules.gain * entry.score + lost
        return False

    def clear(self, entry: Ranked, kind: Kind, reserved: Container[int] = ()) -> Clearing | None:
        """The cheapest way to make room for a job, None where there is none. reserved: shelves kept for others."""
        by_shelf = self._yielding(entry)
        if not by_shelf and not self.soon:
            return None
        if kind.gang:
            return self._clear_hosts(kind, by_shelf, reserved) if kind.across else None
        if self.soon:  # before anybody else is stopped: what comes back anyway, wherever it is
            for tier in kind.tiers:
                enough = [
                    (-lacking, place)
                    for place in tier.shelves
                    if place in self.soon
                    and place not in reserved
                    and (lacking := self._lacking(place, kind.gpus)) <= 0
                ]
                if enough:  # the fullest, as at a start: else the next plan might mix up whose is whose
                    return Clearing((), self._parts(min(enough)[1], (), kind.gpus), tier.choice)
        for tier in kind.tiers:
            best: tuple[int, float, int] | None = None
            chosen: list[Running] = []
            for place in tier.shelves:
                if place not in by_shelf or place in reserved:
                    continue
                if (found := self._cheapest(entry, place, kind.gpus, by_shelf[place])) is None:
                    continue
                key = (*found[0], place)
                if best is None or key < best:
                    best, chosen = key, found[1]
            if best is not None:
                return Clearing(tuple(chosen), self._parts(best[2], chosen, kind.gpus), tier.choice)
        return None

    def _lacking(self, place: int, need: int) -> int:
        """Cards of a shelf that are neither free nor coming back."""
        return need - len(self.stock.free[place]) - len(self.soon.get(place, ()))

    def rights(self, entry: Ranked) -> Hashable:
        """What decides which running jobs give way to it: jobs of the same rights may stop the same ones."""
        job, compares = entry.job, self.rules.policy in ("attained", "shortest")
        patient = compares and self.now - since(job) >= self.rules.patience_s
        return (job.priority, job.project if entry.owed else None, entry.score if patient else None)

    def _yielding(self, entry: Ranked) -> _ByShelf:
        """By shelf, the jobs that give way to it, each with how many of its cards are there."""
        rights = self.rights(entry)
        found = self._known.get(rights)
        if found is None:
            found = {}
            for job in self._stoppable:
                if job.job_id in self.worth and self.yields(job, entry):
                    for place, count in self.stock.places(job.gpu_ids):
                        found.setdefault(place, []).append((job, count))
            if self.rules.policy == "shortest":
                self._known, self._costs = {}, {}  # scores differ from job to job
            self._known[rights] = found
        return found

    def _cheapest(
        self, entry: Ranked, place: int, need: int, yielding: Sequence[tuple[Running, int]]
    ) -> tuple[tuple[int, float], list[Running]] | None:
        """Whom to stop on a shelf, before it what that costs: GPUs, and how much they deserve it. Looked up once."""
        lacking = self._lacking(place, need)
        at = (self.rights(entry), place)
        known = self._costs.get(at)
        if known is not None and known[0] == lacking:
            return known[1]
        found = self._fewest(yielding, lacking)
        cost = None
        if found is not None:
            least = min((self.worth[job.job_id] for job in found), default=0.0)
            cost = ((sum(len(job.gpu_ids) for job in found), -least), found)
        self._costs[at] = (lacking, cost)
        return cost

    def _fewest(self, yielding: Sequence[tuple[Running, int]], lacking: int) -> list[Running] | None:
        """Jobs of a shelf whose cards there make up what lacks, None where there are not enough.

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
                min(
                    yielding, key=lambda pair: (len(pair[0].gpu_ids), -worth[pair[0].job_id], pair[0].job_id)
                )[0]
            ]
        several: list[tuple[Running, int]] = []
        got = 0
        for pair in sorted(yielding, key=lambda pair: (-worth[pair[0].job_id], -pair[1], pair[0].job_id)):
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
            least = min(alone, key=lambda job: (len(job.gpu_ids), -worth[job.job_id], job.job_id))
            if len(least.gpu_ids) <= sum(len(job.gpu_ids) for job, _ in several):
                return [least]
        return [job for job, _ in several]

    def _parts(
        self, place: int, stops: Sequence[Running], need: int
    ) -> tuple[tuple[int, tuple[Gpu, ...]], ...]:
        """Cards to keep on a shelf: first the free ones, then what comes back anyway, then what is cleared."""
        stock = self.stock
        cleared = [
            stock.gpu_of[gpu_id]
            for job in stops
            for gpu_id in job.gpu_ids
            if stock.shelf_of.get(gpu_id) == place
        ]
        return ((place, (*stock.free[place], *self.soon.get(place, ()), *cleared)[:need]),)

    def _clear_hosts(self, kind: Kind, by_shelf: _ByShelf, reserved: Container[int]) -> Clearing | None:
        """Whole hosts, the cheapest to clear first, and so many cards of one more as remain."""
        for tier in kind.tiers:
            left, stops = kind.gpus, dict[int, Running]()
            parts: list[tuple[int, tuple[Gpu, ...]]] = []
            places = [place for place in tier.shelves if place not in reserved]
            sizes = {place: len(self.stock.shelves[place].gpus) for place in places}
            whole = self._by_cost([(place, sizes[place]) for place in places], by_shelf)
            for place, found in whole:
                if sizes[place] > left:
                    continue
                stops |= {job.job_id: job for job in found}
                parts += self._parts(place, found, sizes[place])
                left -= sizes[place]
                sizes[place] = 0
            if left:
                rest = self._by_cost([(place, left) for place in places if sizes[place] >= left], by_shelf)
                if not rest:
                    continue
                place, found = rest[0]
                stops |= {job.job_id: job for job in found}
                parts += self._parts(place, found, left)
            return Clearing(tuple(stops.values()), tuple(parts), tier.choice)
        return None

    def _by_cost(
        self, wanted: Iterable[tuple[int, int]], by_shelf: _ByShelf
    ) -> list[tuple[int, list[Running]]]:
        """Shelves that so many cards can be had of, and whom to stop there, the fewest GPUs first."""
        costs: list[tuple[int, int, list[Running]]] = []
        for place, need in wanted:
            found = self._fewest(by_shelf.get(place, ()), self._lacking(place, need))
            if found is not None:
                costs.append((sum(len(job.gpu_ids) for job in found), place, found))
        costs.sort(key=lambda item: item[:2])
        return [(place, found) for _, place, found in costs]

    def keep(self, clearing: Clearing) -> None:
        """Nobody else gets the cards of a clearing; what its stops give back beside them is to be had soon."""
        kept = {gpu.id for _, gpus in clearing.parts for gpu in gpus}
        stock = self.stock
        for place, gpus in clearing.parts:
            taken = {gpu.id for gpu in gpus}
            stock.free[place] = tuple(gpu for gpu in stock.free[place] if gpu.id not in taken)
            if place in self.soon:
                self.soon[place] = [gpu for gpu in self.soon[place] if gpu.id not in taken]
        for job in clearing.stops:
            for gpu_id in job.gpu_ids:
                place = stock.shelf_of[gpu_id]
                if gpu_id not in kept:
                    self.soon.setdefault(place, []).append(stock.gpu_of[gpu_id])
            del self.worth[job.job_id]
            self._forget(job)

    def _forget(self, job: Running) -> None:
        """It gives way to nobody else."""
        for place, _ in self.stock.places(job.gpu_ids):
            for rights, by_shelf in self._known.items():
                if place in by_shelf:
                    by_shelf[place] = [pair for pair in by_shelf[place] if pair[0] is not job]
                    self._costs.pop((rights, place), None)
