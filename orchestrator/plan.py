"""plan(fleet, now) -> Plan: who starts where, who is stopped for whom, and why everybody else waits. Pure."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from jobs.cards import Card
from jobs.ladder import Choice, NoFit, choose
from jobs.profile import MemoryProfile
from jobs.state import Code, Reason
from orchestrator.claims import Claims
from orchestrator.fleet import Fleet, Gpu, Waiting
from orchestrator.kinds import KeptRank, Kind
from orchestrator.moves import moves
from orchestrator.order import Ranked, Rules, held_by_project, in_order, rank, since
from orchestrator.placement import Chooser, Misfit, Placement, overall, place, wants
from orchestrator.reasons import Kept, crowded, kept, quota, reserved, room
from orchestrator.reserve import Holds
from orchestrator.roll import lowest
from orchestrator.scarce import Scarce
from orchestrator.stock import Spot, Stock
from orchestrator.victims import Bench, Clearing


@dataclass(frozen=True)
class Plan:
    """What was decided from one snapshot.

    starts: job id -> where; stops: running job -> why it is stopped, to go on later; waits: a reason for every queued
    job that did not start; traces: profile keys to trace, each with the job that needs it and the host to do it;
    counts: the same of lengths of data to count; reserved: job id -> when its reserved cards are free at the latest,
    infinity where nobody knows.
    """

    starts: Mapping[int, Placement] = field(default_factory=dict)
    stops: Mapping[int, Reason] = field(default_factory=dict)
    waits: Mapping[int, Reason] = field(default_factory=dict)
    traces: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    reserved: Mapping[int, float] = field(default_factory=dict)


def plan(
    fleet: Fleet,
    now: float,
    chooser: Chooser | None = None,
    rules: Rules | None = None,
    stock: Stock | None = None,
    reasons: bool = True,
) -> Plan:
    """Order the queue, give each job its best free cards, make room for those that outrank what runs, reserve.

    Where everybody is served and the rules say so, move who would end sooner elsewhere.

    stock: what the caller knows to be free, None: as the fleet's hosts and running jobs say. reasons: whether `waits`
    is filled in; a simulation does not read it.
    """
    given = rules or Rules()
    if not fleet.queue and not given.move:
        return Plan()
    own = (stock or Stock.of(fleet, chooser or _uncalibrated)).copy()
    made = _Pass(fleet, now, given, own, reasons).run()
    if given.move and not made.stops and len(made.starts) == len(fleet.queue):
        return replace(made, stops=moves(fleet, now, given, own))
    return made


@dataclass
class _Pass:
    """One pass over the queue."""

    fleet: Fleet
    now: float
    rules: Rules
    stock: Stock
    reasons: bool
    made: Plan = field(default_factory=lambda: Plan({}, {}, {}, {}, {}, {}))
    _bench: Bench | None = None
    runs: Mapping[str, int] = field(default_factory=dict)
    _lowest: int | None = None
    _mine: Mapping[int, int] = field(default_factory=dict)
    _kept: Kept = field(default_factory=dict)
    _kinds: dict[int, Kind] = field(default_factory=dict)
    _failed: dict[Hashable, float] = field(default_factory=dict)
    _kept_from: dict[Hashable, list[tuple[float, float]]] = field(default_factory=dict)
    _said: dict[Hashable, Reason] = field(default_factory=dict)
    _lacks: dict[int, tuple[Reason, dict[str, int], int | None]] = field(default_factory=dict)

    def run(self) -> Plan:
        self.claims = Claims(self.fleet, self.stock)
        self.holds = Holds(self.now, self.stock, self.fleet.running, self.rules, self.claims.cards)
        roll = self.stock.roll
        if self.fleet.projects:
            self.runs = held_by_project(self.fleet) if roll is None else roll.held
        self.held = dict(self.runs)
        ranked = self._ranked()
        self.scarce = Scarce(self.stock, self.rules, self.now, ranked, self._kinds)
        self._hold(ranked)
        shut = False  # once one can't start, where no other may pass it
        for entry, kind in self._in_turn(ranked):
            if shut or not self._turn(entry, kind):
                shut = shut or not self.rules.passing
                if self.reasons:
                    self._say(entry, kind)
                elif shut:
                    break
        return self.made

    def _in_turn(self, ranked: list[Ranked]) -> Iterator[tuple[Ranked, Kind]]:
        """The jobs, best first. One whose project got what it is guaranteed meanwhile has its turn later."""
        ordered = list(in_order(ranked, self.fleet.usage, self.fleet.projects, self.rules))
        for at, entry in enumerate(ordered):
            kind = self._kinds[entry.job.job_id]
            if entry.owed and not self._owed(entry.job):
                later = entry.unowed()
                insort(ordered, later, lo=at + 1, key=lambda other: other.key)
                continue
            yield entry, kind

    def _rank(self, job: Waiting, kind: Kind) -> Ranked:
        awaited = self.claims.has(job.job_id)
        return rank(job, kind.step_s, self.rules, self.now, self._owed(job), awaited)

    def _ranked(self) -> list[Ranked]:
        """Jobs that may start as far as they themselves go."""
        ranked = []
        known = self.stock.ranks
        for job in self.fleet.queue:
            was = known.get(job.job_id)
            if was is not None and was.holds(job, self.now, self._owed(job), self.claims.has(job.job_id)):
                self._kinds[job.job_id] = was.kind
                ranked.append(was.entry)
                continue
            if job.not_before > self.now:
                # No clock in the text: a reason is written again whenever it changes.
                figures = {"until": job.not_before}
                self._waits(job, Reason(Code.BACKOFF, "rests after a failure", figures))
                continue
            if job.blocked is not None:
                self._waits(job, job.blocked)
                continue
            kind = self.stock.kind(job)
            if not kind.tiers:
                self._nowhere(job, kind)
                continue
            if job.home is not None:
                kind = self._at_home(job, kind)
            self._kinds[job.job_id] = kind
            entry = self._rank(job, kind)
            if self.stock.roll is not None and job.home is None:
                until = self.rules.same_until(job, self.now)
                known[job.job_id] = KeptRank(entry, kind, self.claims.has(job.job_id), until)
            ranked.append(entry)
        return ranked

    def _at_home(self, job: Waiting, kind: Kind) -> Kind:
        """Only the host with its checkpoint, until it has waited for it as long as beginning anew would take."""
        lost_s = job.steps_done * kind.tiers[0].choice.step_s
        if job.home is None or self.now - since(job) >= lost_s:
            return kind
        if kind.gang:
            return self.stock.kind_with(job, kind, job.home) or kind
        return self.stock.kind_on(job, kind, job.home) or kind

    def _owed(self, job: Waiting) -> bool:
        """Whether it fits into what its project is guaranteed, beside what the project holds."""
        project = self.fleet.projects.get(job.project)
        if project is None or project.guarantee is None:
            return False
        return self.held.get(job.project, 0) + job.spec.resources.gpus <= project.guarantee

    def _hold(self, ranked: list[Ranked]) -> None:
        """Keep what was cleared for jobs that may still have it."""
        waiting = [entry for entry in ranked if self.claims.has(entry.job.job_id)]
        self.claims.hold(
            (entry, self._kinds[entry.job.job_id])
            for entry in waiting
            if not self.fleet.projects or self._may(entry)
        )

    def _turn(self, entry: Ranked, kind: Kind) -> bool:
        """Serve it, with the cards that were cleared for it, or for one that it outranks."""
        if not self.claims:
            return self._serve(entry, kind)
        self._mine = self.claims.open(entry, self._soon)
        for where, count in self._mine.items():
            self.holds.beside(where, count)
        if self._mine:
            self._failed.clear()  # of those that did not find these cards
            self._kept_from.clear()
        served = self._serve(entry, kind)
        self.claims.settle(self._soon)
        self._mine = {}
        return served

    @property
    def _soon(self) -> dict[int, list[Gpu]] | None:
        return None if self._bench is None else self._bench.soon

    def _serve(self, entry: Ranked, kind: Kind) -> bool:
        """Start it, or make room for it, or reserve."""
        job = entry.job
        if self.fleet.projects and not self._may(entry):
            return False
        if self._hopeless(entry, kind):
            return False
        barred = self.scarce.barred(entry, kind) - self._mine.keys()
        spot = self._spot(entry, kind, barred)
        short = sum(self._mine.values()) < kind.gpus  # else its own cards are on their way
        if spot is None and short and self.claims and self.claims.lend(entry, self._soon):
            spot = self._spot(entry, kind, barred)
        if spot is not None:
            self._start(entry, kind, spot)
            return True
        if barred and not self._mine and self._spot(entry, kind, frozenset()) is not None:
            if self.reasons:
                text = "the free cards that it fits are left to jobs that fit no other; it waits for a smaller one"
                self._waits(job, Reason(Code.BEHIND, text, {"until": since(job) + self.rules.yield_s}))
            return False
        if self.rules.preempt and (clearing := self._make_room(entry, kind)) is not None:
            self._count(entry)
            self.scarce.served(entry, kind, None)
            if self.reasons:
                self._waits(job, room(clearing, self._bench.awaited(clearing) if self._bench else []))
            return True
        self._fails(entry, kind)
        most = self.rules.reservations(self.rules.promoted(job, self.now))
        if kind.gpus > 1 and self.holds.count < most:
            at = self.holds.reserve(job.job_id, kind, self.now - since(job))
            if at is not None:
                self.made.reserved[job.job_id] = at  # type: ignore[index]
        return False

    def _hopeless(self, entry: Ranked, kind: Kind) -> bool:
        """Whether a job that finds the same cards free, and may stop the same others, has failed already."""
        rights = self._rights(entry)
        failed = self._failed.get(
            (*rights, kind.gpus, kind.across, kind.shares and id(kind), id(kind.shelves))
        )
        if failed is not None and entry.score >= failed:
            return True
        kept = self._kept_from.get((*rights, id(kind)))
        if kept is None:
            return False
        ends = self._ends(entry, kind.tiers[0].choice)
        return any(entry.score >= score and ends >= end for score, end in kept)

    def _fails(self, entry: Ranked, kind: Kind) -> None:
        """Where cards lie free that are reserved, it is only those that take as long who fail as well."""
        rights = self._rights(entry)
        if self.holds.by_shelf and self.stock.fit(kind) is not None:
            ends = self._ends(entry, kind.tiers[0].choice)
            self._kept_from.setdefault((*rights, id(kind)), []).append((entry.score, ends))
            return
        same = (*rights, kind.gpus, kind.across, kind.shares and id(kind), id(kind.shelves))
        self._failed[same] = entry.score

    def _rights(self, entry: Ranked) -> tuple[Hashable, ...]:
        """What decides whom it may stop, its score apart: its project, where projects have terms."""
        patient = self.now - since(entry.job) >= self.rules.patience_s
        return (entry.job.priority, bool(self.fleet.projects) and entry.job.project, entry.owed, patient)

    def _may(self, entry: Ranked) -> bool:
        """Whether its project may have more: within its guarantee, or borrowing."""
        project = self.fleet.projects.get(entry.job.project)
        if project is None or project.borrows or project.guarantee is None:
            return True
        return self._owed(entry.job)

    def _spot(self, entry: Ranked, kind: Kind, barred: frozenset[int]) -> Spot | None:
        spot, held = self.stock.fit(kind), self.holds.by_shelf

        def allows(place: int, choice: Choice) -> bool:
            return place not in barred and self.holds.allows(place, kind.gpus, self._ends(entry, choice))

        if spot is not None and any(place in held or place in barred for place, _ in spot.parts):
            spot = self.stock.fit(kind, allows)
        if spot is not None and kind.shares and not spot.side:
            beside = self.stock.beside(kind, allows)
            if beside is not None and self.scarce.rather(beside, spot, kind):
                return beside
        return spot

    def _ends(self, entry: Ranked, choice: Choice) -> float:
        """When a job that starts now ends, infinity where nobody knows."""
        left = entry.job.steps_left
        return math.inf if left is None else self.now + left * choice.step_s

    def _start(self, entry: Ranked, kind: Kind, spot: Spot) -> None:
        job = entry.job
        first = self.stock.shelves[spot.parts[0][0]].host
        self.made.starts[job.job_id] = Placement(first, spot.gpus, spot.choice, spot.side)  # type: ignore[index]
        self.stock.draw(spot, kind.shares, job.job_id)
        self.scarce.served(entry, kind, spot)
        if self.holds.by_shelf:
            ends = self._ends(entry, spot.choice)
            for where, gpus in spot.parts:
                self.holds.use(where, len(gpus), ends)
        self._count(entry)

    def _count(self, entry: Ranked) -> None:
        if self.fleet.projects:
            job = entry.job
            self.held[job.project] = self.held.get(job.project, 0) + job.spec.resources.gpus

    def _make_room(self, entry: Ranked, kind: Kind) -> Clearing | None:
        if len(self.made.stops) >= self.rules.most_stops:
            return None
        if self._bench is None:
            if not self._may_stop(entry):
                return None
            projects = self.fleet.projects
            roll = self.stock.ready(self.fleet, self.rules, self.now)
            self._bench = Bench(self.rules, self.now, self.stock, roll, projects, self.claims.hidden)
        clearing = self._bench.clear(entry, kind, self.holds.by_shelf, self._mine)
        if clearing is None:
            return None
        self._bench.keep(clearing)
        for where, gpus in clearing.parts:
            unheld = sum(gpu.held_by is None for gpu in gpus)
            until = self.now + self.rules.stop_s if clearing.stops else None
            self._kept.setdefault(where, {})[entry.job.job_id] = (unheld, until)
        for victim in clearing.stops:
            text = f"stopped to make room for job {entry.job.job_id}; goes on from its checkpoint"
            self.made.stops[victim.job_id] = Reason(Code.PREEMPTED, text, {"for_job": entry.job.job_id})  # type: ignore[index]
        return clearing

    def _may_stop(self, entry: Ranked) -> bool:
        """Whether anything could give way to it, or does already: most of the time a look at the rules tells."""
        patient = self.now - since(entry.job) >= self.rules.patience_s
        if entry.owed or (patient and self.rules.policy in ("attained", "shortest")):
            return True
        if self._lowest is None:
            self._lowest = lowest(self.fleet, self.stock.roll)
        return entry.job.priority > self._lowest

    def _waits(self, job: Waiting, reason: Reason) -> None:
        self.made.waits[job.job_id] = reason  # type: ignore[index]

    def _nowhere(self, job: Waiting, kind: Kind) -> None:
        """No host could take it as it is now."""
        if not self.reasons:
            return
        known = self._lacks.get(id(kind))
        if known is None:
            known = self._lacks[id(kind)] = (overall(kind.misfits), *wants(job, self.fleet, kind.misfits))
        reason, untraced, uncounted = known
        self._waits(job, reason)
        # Of several jobs the first that came: the same whatever the order of the queue.
        for key, host_id in untraced.items():
            wanted = (job.job_id, host_id)
            self.made.traces[key] = min(self.made.traces.get(key, wanted), wanted)  # type: ignore[index]
        if uncounted is not None:
            wanted = (job.job_id, uncounted)
            self.made.counts[job.data_key] = min(self.made.counts.get(job.data_key, wanted), wanted)  # type: ignore[index]

    def _say(self, entry: Ranked, kind: Kind) -> None:
        """Why a job waits that some card would take."""
        job = entry.job
        if job.job_id in self.made.waits:
            return
        if self.fleet.projects and not self._may(entry):
            terms, runs = self.fleet.projects[job.project], self.runs.get(job.project, 0)
            self._waits(job, quota(job, terms, runs, self.held.get(job.project, 0)))
            return
        reason = self._said.get(id(kind))
        if reason is None:
            reason = self._said[id(kind)] = self._full(job, kind)
        at = self.made.reserved.get(job.job_id)
        self._waits(job, reason if at is None else kept(reason, at, job, self.now, self.rules))

    def _full(self, job: Waiting, kind: Kind) -> Reason:
        """The same for each kind that the same cards would do, but for how much of them it takes."""
        first = kind.tiers[0]
        same = (id(kind.shelves), kind.gpus, first.shelves[0])
        reason = self._said.get(same)
        if reason is None:
            reason = crowded(job, kind, self.stock)
            if reason.code is Code.BEHIND:
                reason = reserved(reason, kind, self.stock, self.holds, self.claims, self._kept)
            self._said[same] = reason
        if "upper_bytes" not in reason.figures:
            return reason
        figures = {**reason.figures, "upper_bytes": first.choice.projection.upper_bytes}
        return Reason(reason.code, reason.text, figures)


def _uncalibrated(job: Waiting, profile: MemoryProfile, card: Card, stack: str = "") -> Choice | NoFit:
    return choose(profile, job.spec, card)


def explain(job: Waiting, fleet: Fleet, chooser: Chooser) -> Misfit | Placement:
    """Why one job waits, host by host, as if it were alone in the queue."""
    free = frozenset(
        gpu.id for host in fleet.hosts if host.open for gpu in host.gpus if gpu.usable and gpu.held_by is None
    )
    return place(job, fleet, free, chooser)
