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
from orchestrator.fleet import Fleet, Waiting
from orchestrator.kinds import Kind
from orchestrator.moves import moves
from orchestrator.order import Ranked, Rules, held_by_project, in_order, rank, since
from orchestrator.placement import Chooser, Misfit, Option, Placement, busy, coming_up, overall, place, wants
from orchestrator.reserve import Holds
from orchestrator.scarce import Scarce
from orchestrator.stock import Spot, Stock
from orchestrator.victims import Bench, Clearing


@dataclass(frozen=True)
class Plan:
    """What was decided from one snapshot.

    starts: job id -> where; stops: running job -> why it is stopped, to go on later; waits: a reason for every queued
    job that did not start; traces: profile keys to trace, each with the job that needs it and the host to do it;
    counts: the same of lengths of data to count; reserved: job id -> when its reserved cards are free at the latest.
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
    own = stock.copy() if stock is not None else Stock.of(fleet, chooser or _uncalibrated)
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
    _kinds: dict[int, Kind] = field(default_factory=dict)
    _failed: dict[Hashable, float] = field(default_factory=dict)
    _kept_from: dict[Hashable, list[tuple[float, float]]] = field(default_factory=dict)
    _said: dict[Hashable, Reason] = field(default_factory=dict)
    _lacks: dict[int, tuple[Reason, dict[str, int], int | None]] = field(default_factory=dict)

    def run(self) -> Plan:
        self.holds = Holds(self.now, self.stock, self.fleet.running, self.rules)
        self.held = held_by_project(self.fleet) if self.fleet.projects else {}
        self.scarce = Scarce(self.stock, self.rules, self.now)
        # Of what runs; what is being stopped gives way to anybody.
        running = self.fleet.running
        self.lowest = min(
            (job.priority if job.stopping_until is None else -1 for job in running), default=100
        )
        shut = False  # once one can't start, where no other may pass it
        for entry, kind in self._in_turn(self._ranked()):
            if shut or not self._serve(entry, kind):
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
        return rank(job, kind.step_s, self.rules, self.now, self._owed(job))

    def _ranked(self) -> list[Ranked]:
        """Jobs that may start as far as they themselves go."""
        ranked = []
        for job in self.fleet.queue:
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
            self.scarce.wants(entry, kind)
            ranked.append(entry)
        return ranked

    def _at_home(self, job: Waiting, kind: Kind) -> Kind:
        """Only the host with its checkpoint, until it has waited for it as long as beginning anew would take."""
        lost_s = job.steps_done * kind.tiers[0].choice.step_s
        if job.home is None or self.now - since(job) >= lost_s:
            return kind
        return self.stock.kind_on(job, kind, job.home) or kind

    def _owed(self, job: Waiting) -> bool:
        """Whether it fits into what its project is guaranteed, beside what the project holds."""
        project = self.fleet.projects.get(job.project)
        if project is None or project.guarantee is None:
            return False
        return self.held.get(job.project, 0) + job.spec.resources.gpus <= project.guarantee

    def _serve(self, entry: Ranked, kind: Kind) -> bool:
        """Start it, or make room for it, or reserve."""
        job = entry.job
        if self.fleet.projects and not self._may(entry):
            return False
        if self._hopeless(entry, kind):
            return False
        barred = self.scarce.barred(entry, kind)
        spot = self._spot(entry, kind, barred)
        if spot is not None:
            self._start(entry, kind, spot)
            return True
        if barred and self._spot(entry, kind, frozenset()) is not None:
            if self.reasons:
                text = "the free cards that it fits are left to jobs that fit no other; it waits for a smaller one"
                self._waits(job, Reason(Code.BEHIND, text, {"until": since(job) + self.rules.yield_s}))
            return False
        if self.rules.preempt and (clearing := self._make_room(entry, kind)) is not None:
            self._count(entry)
            self.scarce.served(entry, kind, None)
            if self.reasons:
                self._waits(job, _room(clearing))
            return True
        self._fails(entry, kind)
        most = self.rules.reservations(self.rules.promoted(job, self.now))
        if kind.gpus > 1 and self.holds.count < most:
            at = self.holds.reserve(kind, self.now - since(job))
            if at is not None and at < math.inf:
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
        """What decides whom it may stop, its score apart."""
        patient = self.now - since(entry.job) >= self.rules.patience_s
        return (entry.job.priority, entry.job.project if entry.owed else None, patient)

    def _may(self, entry: Ranked) -> bool:
        """Whether its project may have more: within its guarantee, or borrowing."""
        project = self.fleet.projects.get(entry.job.project)
        if project is None or project.borrows or project.guarantee is None:
            return True
        return self._owed(entry.job)

    def _spot(self, entry: Ranked, kind: Kind, barred: frozenset[int]) -> Spot | None:
        spot, held = self.stock.fit(kind), self.holds.by_shelf
        if spot is None or not any(place in held or place in barred for place, _ in spot.parts):
            return spot

        def allows(place: int, choice: Choice) -> bool:
            return place not in barred and self.holds.allows(place, kind.gpus, self._ends(entry, choice))

        return self.stock.fit(kind, allows)

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
        if self._bench is None:
            if not self._may_stop(entry):
                return None
            running, projects = self.fleet.running, self.fleet.projects
            self._bench = Bench(self.rules, self.now, self.stock, running, projects)
        clearing = self._bench.clear(entry, kind, self.holds.by_shelf)
        if clearing is None:
            return None
        self._bench.keep(clearing)
        for victim in clearing.stops:
            text = f"stopped to make room for job {entry.job.job_id}; goes on from its checkpoint"
            self.made.stops[victim.job_id] = Reason(Code.PREEMPTED, text, {"for_job": entry.job.job_id})  # type: ignore[index]
        return clearing

    def _may_stop(self, entry: Ranked) -> bool:
        """Whether anything could give way to it, or does already: most of the time a look at the rules tells."""
        patient = self.now - since(entry.job) >= self.rules.patience_s
        if entry.owed or (patient and self.rules.policy in ("attained", "shortest")):
            return True
        return entry.job.priority > self.lowest

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
            self._waits(job, self._quota(job))
            return
        reason = self._said.get(id(kind))
        if reason is None:
            reason = self._said[id(kind)] = self._full(job, kind)
        at = self.made.reserved.get(job.job_id)
        if at is not None:
            figures = {**reason.figures, "reserved_for": at}
            reason = Reason(reason.code, f"{reason.text}; cards are kept for it", figures)
        self._waits(job, reason)

    def _quota(self, job: Waiting) -> Reason:
        held, terms = self.held.get(job.project, 0), self.fleet.projects[job.project]
        text = f"project {job.project} holds {held} of its {terms.guarantee} GPUs and may not borrow"
        figures = {"held": held, "guarantee": terms.guarantee, "gpus": job.spec.resources.gpus}
        return Reason(Code.QUOTA, text, figures)

    def _full(self, job: Waiting, kind: Kind) -> Reason:
        """The same for each kind that the same cards would do, but for how much of them it takes."""
        first = kind.tiers[0]
        same = (id(kind.shelves), kind.gpus, first.shelves[0])
        reason = self._said.get(same)
        if reason is None:
            reason = self._said[same] = self._crowded(job, kind)
        if "upper_bytes" not in reason.figures:
            return reason
        figures = {**reason.figures, "upper_bytes": first.choice.projection.upper_bytes}
        return Reason(reason.code, reason.text, figures)

    def _crowded(self, job: Waiting, kind: Kind) -> Reason:
        """Which cards would do, and who has them."""
        shelves = self.stock.shelves
        options = [
            Option(shelves[where].host, shelves[where].gpus, tier.choice)
            for tier in kind.tiers
            for where in tier.shelves
        ]
        ready = [option for option in options if option.host.ray_ready]
        if not ready:
            return coming_up(options)
        free = frozenset(gpu.id for gpus in self.stock.free for gpu in gpus)
        found = busy(job.spec, ready, free)
        return Reason(found.code, f"{ready[0].host.name}: {found.text}", found.figures)


def _room(clearing: Clearing) -> Reason:
    """Others are being stopped for it."""
    who = sorted(job.job_id for job in clearing.stops)
    if not who:
        return Reason(Code.ROOM, "cards that are being given back are kept for it")
    names = ", ".join(map(str, who[:5])) + (" …" if len(who) > 5 else "")
    text = f"job{'s' if len(who) > 1 else ''} {names} {'are' if len(who) > 1 else 'is'} being stopped for it"
    return Reason(Code.ROOM, text, {"stops": who})


def _uncalibrated(job: Waiting, profile: MemoryProfile, card: Card, stack: str = "") -> Choice | NoFit:
    return choose(profile, job.spec, card)


def explain(job: Waiting, fleet: Fleet, chooser: Chooser) -> Misfit | Placement:
    """Why one job waits, host by host, as if it were alone in the queue."""
    free = frozenset(
        gpu.id for host in fleet.hosts if host.open for gpu in host.gpus if gpu.usable and gpu.held_by is None
    )
    return place(job, fleet, free, chooser)
