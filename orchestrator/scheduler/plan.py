"""plan(fleet, now) -> Plan: who starts where, who is stopped for whom, and why everybody else waits. Pure."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace

from jobs.cards import Card
from jobs.memory.ladder import Choice, NoFit, choose
from jobs.memory.profile import MemoryProfile
from jobs.state import Code, Reason
from orchestrator.scheduler.cache.pending_queue import Now
from orchestrator.scheduler.cache.running_index import lowest
from orchestrator.scheduler.fair_share import FairShareQueue
from orchestrator.scheduler.fleet import Fleet, Gpu, Waiting
from orchestrator.scheduler.job_class import Kind
from orchestrator.scheduler.placement.capacity import Stock
from orchestrator.scheduler.placement.card_groups import Spot
from orchestrator.scheduler.placement.locality import at_home
from orchestrator.scheduler.placement.place import Chooser, Misfit, Placement, place, wants
from orchestrator.scheduler.placement.scarcity import Scarce
from orchestrator.scheduler.policy import Ranked, Rules, held_by_project, since
from orchestrator.scheduler.preemption.migration import moves
from orchestrator.scheduler.preemption.min_runtime import Dues
from orchestrator.scheduler.preemption.nominations import Claims
from orchestrator.scheduler.preemption.victims import Bench, Clearing
from orchestrator.scheduler.reasons import Kept, crowded, kept, quota, reserved, room
from orchestrator.scheduler.reservations import Holds


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
    _dues: Dues | None = None
    runs: Mapping[str, int] = field(default_factory=dict)
    _lowest: int | None = None
    _mine: Mapping[int, int] = field(default_factory=dict)
    _kept: Kept = field(default_factory=dict)
    _homes: dict[Hashable, Kind] = field(default_factory=dict)
    _kept_from: dict[Hashable, list[tuple[float, float]]] = field(default_factory=dict)
    _said: dict[Hashable, Reason] = field(default_factory=dict)
    _wants: dict[int, tuple[dict[str, int], int | None]] = field(default_factory=dict)

    def run(self) -> Plan:
        if not self.reasons and self._nothing_to_give():
            return self.made
        self.claims = Claims(self.fleet, self.stock)
        self.holds = Holds(self.now, self.stock, self.fleet.running, self.rules, self.claims.cards)
        roll = self.stock.roll
        if self.fleet.projects:
            self.runs = held_by_project(self.fleet) if roll is None else roll.held
        self.held = dict(self.runs)
        line = self.stock.line
        line.look(self.fleet.queue, self._now())
        for job in line.aside.values():
            self._aside(job)
        self.scarce = Scarce(self.stock, self.rules, self.now, line.asked.values())
        self._hold()
        self.queue = FairShareQueue(line.lanes, self.fleet.usage, self.fleet.projects)
        while (entry := self.queue.pop()) is not None:
            if entry.owed and not self._owed(entry.job):  # its project got what it is guaranteed meanwhile
                self.queue.demote()
            elif self._turn(entry):
                self.queue.charge(entry)
            else:
                if self.reasons:
                    self._say(entry)
                if not self.rules.passing:
                    break
        if self.reasons:
            for entry in sorted(line.lanes, key=lambda entry: entry.key):  # whom each may stop goes by rank
                if entry.job.job_id not in self.made.starts:
                    self._say(entry)
        return replace(self.made, reserved=self.holds.reserved)

    def _nothing_to_give(self) -> bool:
        """Whether it is plain at a glance that nobody starts: no card is free, and nobody may stop anybody."""
        stock, roll, rules = self.stock, self.stock.roll, self.rules
        if any(stock.free) or stock.room or roll is None or roll.stopping or self.fleet.cleared:
            return False
        if not rules.preempt:
            return True
        if rules.policy in ("attained", "shortest") or self.fleet.projects:
            return False
        return max((job.priority for job in self.fleet.queue), default=0) <= roll.lowest

    def _now(self) -> Now:
        fleet, promised = self.fleet, self.claims.promised
        return Now(self.now, self.rules, fleet.projects, self.held, promised, self.stock.kind, self._at_home)

    def _aside(self, job: Waiting) -> None:
        """Why one waits that may not start, whatever is free."""
        if job.blocked is not None:
            self._waits(job, job.blocked)
        elif job.not_before > self.now and not any(host.open for host in self.fleet.hosts):
            self._nowhere(job, self.stock.kind(job))  # the host that failed it is not there either
        elif job.not_before > self.now:
            # No clock in the text: a reason is written again whenever it changes.
            why = job.rests or Reason(Code.BACKOFF, "waits after a failure")
            self._waits(job, Reason(why.code, why.text, {**why.figures, "until": job.not_before}))
        else:
            self._nowhere(job, self.stock.kind(job))

    def _at_home(self, job: Waiting, kind: Kind) -> Kind:
        """With what it costs to leave the host that has its checkpoint."""
        return at_home(job, kind, self.stock, self.rules, self.now, self._homes)

    def _owed(self, job: Waiting) -> bool:
        """Whether it fits into what its project is guaranteed, beside what the project holds."""
        project = self.fleet.projects.get(job.project)
        if project is None or project.guarantee is None:
            return False
        return self.held.get(job.project, 0) + job.spec.resources.gpus <= project.guarantee

    def _hold(self) -> None:
        """Keep what was cleared for jobs that may still have it."""
        line = self.stock.line
        waiting = [entry for job_id in self.claims.promised if (entry := line.entry(job_id)) is not None]
        self.claims.hold(entry for entry in waiting if not self.fleet.projects or self._may(entry))

    def _turn(self, entry: Ranked) -> bool:
        """Serve it, with the cards that were cleared for it, or for one that it outranks."""
        if not self.claims:
            return self._serve(entry)
        self.holds.settle()  # before claims change what is free
        self._mine = self.claims.open(entry, self._soon)
        for where, count in self._mine.items():
            self.holds.beside(where, count)
        served = self._serve(entry)
        self.claims.settle(self._soon)
        if self._mine:
            self.queue.revive()  # those that did not find these cards
            self._kept_from.clear()
        self._mine = {}
        return served

    @property
    def _soon(self) -> dict[int, list[Gpu]] | None:
        return None if self._bench is None else self._bench.soon

    def _serve(self, entry: Ranked) -> bool:
        """Start it, or make room for it, or reserve."""
        job, kind = entry.job, entry.kind
        if self.fleet.projects and not self._may(entry):
            self.queue.fail(entry)
            return False
        if self._kept_from and self._keeps_off(entry):
            return False
        barred = self.scarce.barred(entry) - self._mine.keys()
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
            self.scarce.served(entry, None)
            if self.reasons:
                self._waits(job, room(clearing, self._bench.awaited(clearing) if self._bench else []))
            return True
        self._fails(entry)
        most = self.rules.reservations(self.rules.promoted(job, self.now))
        if kind.gpus > 1 and most:
            self.holds.ask(job.job_id, kind, self.now - since(job), most, entry.owed)
        return False

    def _keeps_off(self, entry: Ranked) -> bool:
        """Whether a job that is alike and takes no longer found nothing, for cards that lie free are reserved."""
        kept = self._kept_from.get((*entry.alike, id(entry.kind)))
        if kept is None:
            return False
        ends = self._ends(entry, entry.kind.tiers[0].choice)
        return any(entry.score >= score and ends >= end for score, end in kept)

    def _fails(self, entry: Ranked) -> None:
        """Where cards lie free that are reserved, it is only those that take as long who fail as well."""
        if self.stock.fit(entry.kind) is not None and self.holds.by_shelf:
            ends = self._ends(entry, entry.kind.tiers[0].choice)
            self._kept_from.setdefault((*entry.alike, id(entry.kind)), []).append((entry.score, ends))
        else:
            self.queue.fail(entry, entry.score)

    def _may(self, entry: Ranked) -> bool:
        """Whether its project may have more: within its guarantee, or borrowing."""
        project = self.fleet.projects.get(entry.job.project)
        if project is None or project.borrows or project.guarantee is None:
            return True
        return self._owed(entry.job)

    def _spot(self, entry: Ranked, kind: Kind, barred: frozenset[int]) -> Spot | None:
        spot = self.stock.fit(kind)
        if spot is None:
            return None
        held = self.holds.by_shelf

        def allows(place: int, choice: Choice) -> bool:
            return place not in barred and self.holds.allows(
                place, kind.gpus, self._ends(entry, choice), entry.owed
            )

        if any(place in held or place in barred for place, _ in spot.parts):
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
        if spot.side and self._bench is not None:  # whoever was alone there is not any more
            self._bench.look_again(spot.parts[0][0])
        self.scarce.served(entry, spot)
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
            self._bench = self._benched()
        # What is owed goes before what would borrow, though that has a reservation.
        reserved = {place for place, held in self.holds.by_shelf.items() if held.owed or not entry.owed}
        clearing = self._bench.clear(entry, kind, reserved, self._mine)
        if clearing is None:
            return None
        self._bench.keep(clearing)
        for where, gpus in clearing.parts:
            unheld = sum(gpu.held_by is None for gpu in gpus)
            until = self.now + self.rules.stop_s if clearing.stops else None
            self._kept.setdefault(where, {})[entry.job.job_id] = (unheld, until)
        for victim in clearing.stops:
            text = f"stopped to make room for job {entry.job.job_id}; continues from its checkpoint later"
            self.made.stops[victim.job_id] = Reason(Code.PREEMPTED, text, {"for_job": entry.job.job_id})  # type: ignore[index]
        return clearing

    def _benched(self) -> Bench:
        roll = self.stock.ready(self.fleet, self.rules, self.now)
        return Bench(self.rules, self.now, self.stock, roll, self.fleet.projects, self.claims.hidden)

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
        self._waits(job, kind.lacks)
        if not kind.untraced:
            return
        found = self._wants.get(id(kind))
        if found is None:
            found = self._wants[id(kind)] = wants(job, self.fleet, kind.misfits)
        untraced, uncounted = found
        # Of several jobs the first that came: the same whatever the order of the queue.
        for key, host_id in untraced.items():
            wanted = (job.job_id, host_id)
            self.made.traces[key] = min(self.made.traces.get(key, wanted), wanted)  # type: ignore[index]
        if uncounted is not None:
            wanted = (job.job_id, uncounted)
            self.made.counts[job.data_key] = min(self.made.counts.get(job.data_key, wanted), wanted)  # type: ignore[index]

    def _say(self, entry: Ranked) -> None:
        """Why a job waits that some card would take."""
        job, kind = entry.job, entry.kind
        if job.job_id in self.made.waits:
            return
        if self.fleet.projects and not self._may(entry):
            terms, runs = self.fleet.projects[job.project], self.runs.get(job.project, 0)
            self._waits(job, quota(job, terms, runs, self.held.get(job.project, 0)))
            return
        reason = self._said.get(id(kind))
        if reason is None:
            reason = self._said[id(kind)] = self._full(job, kind)
        self.holds.settle()
        at = self.holds.reserved.get(job.job_id)
        if at is None and self.rules.preempt and reason.code is Code.BUSY and self._may_stop(entry):
            self._bench = self._bench or self._benched()
            self._dues = self._dues or Dues(self._bench)
            reason = self._dues.told(reason, entry, kind)
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
