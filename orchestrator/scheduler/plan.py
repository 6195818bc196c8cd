"""plan(given) -> Plan: who starts where, who is stopped for whom, and why everybody else waits. Pure."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from jobs.memory.ladder import Choice
from jobs.state import Code, Reason
from orchestrator.scheduler.cache.scheduler_cache import PlanInput
from orchestrator.scheduler.fair_share import FairShareQueue
from orchestrator.scheduler.feasibility import Chooser
from orchestrator.scheduler.fleet import Fleet, PendingJob
from orchestrator.scheduler.job_class import JobClass
from orchestrator.scheduler.placement.card_groups import CardSet
from orchestrator.scheduler.placement.place import Misfit, Placement, place, wants
from orchestrator.scheduler.placement.scarcity import Scarcity
from orchestrator.scheduler.policy import Ranked, since
from orchestrator.scheduler.preemption.migration import moves
from orchestrator.scheduler.preemption.min_runtime import MinRuntimeNotices
from orchestrator.scheduler.preemption.nominations import Nominations
from orchestrator.scheduler.preemption.victims import Preemption, VictimSearch
from orchestrator.scheduler.reasons import Cleared, crowded, preempting, quota, reserved, with_reservation
from orchestrator.scheduler.reservations import Reservations


@dataclass(frozen=True)
class Plan:
    """What was decided from one snapshot.

    starts: job id -> where; stops: running job -> why it is stopped, to go on later; waits: a reason for every queued
    job that did not start; traces: profile keys to trace, each with the job that needs it and the host to do it;
    counts: the same of lengths of data to count; reserved: job id -> when its reserved cards are free at the latest,
    infinity where nobody knows; without reasons only those that anything hung on.
    """

    starts: Mapping[int, Placement] = field(default_factory=dict)
    stops: Mapping[int, Reason] = field(default_factory=dict)
    waits: Mapping[int, Reason] = field(default_factory=dict)
    traces: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    reserved: Mapping[int, float] = field(default_factory=dict)


def plan(given: PlanInput, reasons: bool = True) -> Plan:
    """Give each job its best free cards, make room for those that outrank what runs, reserve for gangs.

    Where everybody is served and the rules say so, move who would end sooner elsewhere. given: the queue ranked, from
    SchedulerCache.plan_input(); it is left as it is. reasons: whether `waits` is filled in; a simulation does not
    read it.
    """
    if not given.fleet.queue and not given.rules.move:
        return Plan()
    return _Cycle(given, reasons).run()


class _Outcome(Enum):
    """What came of a job's turn."""

    SERVED = auto()  # it starts, or others make room for it
    WAITS = auto()
    LACKS_CARDS = auto()  # it waits, and would have cards kept for it


class _Cycle:
    """One scheduling cycle: everything in it is of this plan alone."""

    def __init__(self, given: PlanInput, reasons: bool) -> None:
        self.given, self.reasons = given, reasons
        self.fleet, self.now, self.rules = given.fleet, given.now, given.rules
        self.capacity = given.capacity.copy()
        self.held = dict(given.held)
        self._lowest = given.running.lowest
        self.starts: dict[int, Placement] = {}
        self.stops: dict[int, Reason] = {}
        self.waits: dict[int, Reason] = {}
        self.traces: dict[str, tuple[int, int]] = {}
        self.counts: dict[str, tuple[int, int]] = {}
        self._victims: VictimSearch | None = None
        self._notices: MinRuntimeNotices | None = None
        self._mine: Mapping[int, int] = {}  # cards that are kept for the job whose turn it is, by card group
        self._cleared: Cleared = {}
        # Of jobs that found nothing, for free cards are reserved: scores and ends, by equivalence.
        self._kept_off: dict[Hashable, list[tuple[float, float]]] = {}
        self._said: dict[Hashable, Reason] = {}
        self._wants: dict[int, tuple[dict[str, int], int | None]] = {}

    def run(self) -> Plan:
        queue = self.given.queue
        for job in queue.inadmissible.values():
            self._say_inadmissible(job)
        self.scarcity = Scarcity(self.capacity, self.rules, self.now, queue.demand.values())
        promised = [
            entry
            for job_id in self.given.promised.cards
            if (entry := queue.entry(job_id)) is not None and (not self.fleet.projects or self._may(entry))
        ]
        self.nominations = Nominations(self.given.promised, self.capacity, promised)
        self.reservations = Reservations(
            self.now,
            self.capacity,
            self.given.running,
            self.fleet.running,
            self.rules,
            self.nominations.cards,
        )
        self._serve_all()
        if self.reasons:
            for entry in sorted(queue.lanes, key=lambda entry: entry.key):  # whom each may stop goes by rank
                if entry.job.job_id not in self.starts:
                    self._say(entry)
        reserved_until = self.reservations.by_job if self.reasons else self.reservations.found
        self._close()
        return self._plan(reserved_until)

    def _close(self) -> None:
        """Drop what refers back to its owner: else each plan would be left to the garbage collector."""
        self.capacity.watch(None)
        if self._victims is not None:
            self._victims.close()

    def _plan(self, reserved_until: Mapping[int, float]) -> Plan:
        stops: Mapping[int, Reason] = self.stops
        if self.rules.move and not stops and len(self.starts) == len(self.fleet.queue):
            stops = moves(self.fleet, self.now, self.rules, self.given.classes, self.capacity)
        return Plan(self.starts, stops, self.waits, self.traces, self.counts, reserved_until)

    def _serve_all(self) -> None:
        """Everybody has a turn, best first."""
        self.queue = FairShareQueue(self.given.queue.lanes, self.fleet.usage, self.fleet.projects)
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

    def _say_inadmissible(self, job: PendingJob) -> None:
        """Why one waits that may not start, whatever is free."""
        if job.blocked is not None:
            self.waits[job.job_id] = job.blocked
        elif job.not_before > self.now and not any(host.open for host in self.fleet.hosts):
            self._nowhere(job)  # the host that failed it is not there either
        elif job.not_before > self.now:
            # No clock in the text: a reason is written again whenever it changes.
            why = job.rests or Reason(Code.BACKOFF, "waits after a failure")
            self.waits[job.job_id] = Reason(why.code, why.text, {**why.figures, "until": job.not_before})
        else:
            self._nowhere(job)

    def _owed(self, job: PendingJob) -> bool:
        """Whether it fits into what its project is guaranteed, beside what the project holds."""
        project = self.fleet.projects.get(job.project)
        if project is None or project.guarantee is None:
            return False
        return self.held.get(job.project, 0) + job.spec.resources.gpus <= project.guarantee

    def _turn(self, entry: Ranked) -> bool:
        """Serve it, with the cards that were cleared for it, or for one that it outranks."""
        if not self.nominations:
            outcome = self._serve(entry)
        else:
            with self.nominations.turn(entry) as mine:
                self._mine = mine
                for where, count in mine.items():
                    self.reservations.beside(where, count)
                outcome = self._serve(entry)
                self._mine = {}
            if mine:
                self.queue.revive()  # those that did not find these cards
                self._kept_off.clear()
        if outcome is _Outcome.LACKS_CARDS:
            job = entry.job
            most = self.rules.reservations(self.rules.promoted(job, self.now))
            if entry.job_class.gpus > 1 and most:
                waited_s = self.now - since(job)
                self.reservations.ask(job.job_id, entry.job_class, waited_s, most, entry.owed)
        return outcome is _Outcome.SERVED

    def _serve(self, entry: Ranked) -> _Outcome:
        """Start it, or make room for it."""
        job, job_class = entry.job, entry.job_class
        if self.fleet.projects and not self._may(entry):
            self.queue.fail(entry)
            return _Outcome.WAITS
        if self._kept_off and self._keeps_off(entry):
            return _Outcome.WAITS
        excluded = self.scarcity.excluded(entry) - self._mine.keys()
        cards = self._find(entry, excluded)
        short = sum(self._mine.values()) < job_class.gpus  # else its own cards are on their way
        if cards is None and short and self.nominations and self.nominations.lend(entry):
            cards = self._find(entry, excluded)
        if cards is not None:
            self._start(entry, cards)
            return _Outcome.SERVED
        if excluded and not self._mine and self._find(entry, frozenset()) is not None:
            if self.reasons:
                text = "the free cards that it fits are left to jobs that fit no other; it waits for a smaller one"
                until = since(job) + self.rules.yield_s
                self.waits[job.job_id] = Reason(Code.BEHIND, text, {"until": until})
            return _Outcome.WAITS
        if self.rules.preempt and (preemption := self._make_room(entry)) is not None:
            self._count(entry)
            self.scarcity.served(entry, None)
            if self.reasons:
                awaited = self._victims.awaited(preemption) if self._victims else []
                self.waits[job.job_id] = preempting(preemption, awaited)
            return _Outcome.SERVED
        self._fails(entry)
        return _Outcome.LACKS_CARDS

    def _keeps_off(self, entry: Ranked) -> bool:
        """Whether an equivalent job that takes no longer found nothing, because free cards are reserved."""
        known = self._kept_off.get((*entry.equivalence, entry.job_class.number))
        if known is None:
            return False
        ends = self._ends(entry, entry.job_class.tiers[0].choice)
        return any(entry.score >= score and ends >= end for score, end in known)

    def _fails(self, entry: Ranked) -> None:
        """Where free cards are reserved, only those that take as long fail as well."""
        if self.capacity.fit(entry.job_class) is not None and self.reservations.by_group:
            ends = self._ends(entry, entry.job_class.tiers[0].choice)
            key = (*entry.equivalence, entry.job_class.number)
            self._kept_off.setdefault(key, []).append((entry.score, ends))
        else:
            self.queue.fail(entry, entry.score)

    def _may(self, entry: Ranked) -> bool:
        """Whether its project may have more: within its guarantee, or borrowing."""
        project = self.fleet.projects.get(entry.job.project)
        if project is None or project.borrows or project.guarantee is None:
            return True
        return self._owed(entry.job)

    def _find(self, entry: Ranked, excluded: frozenset[int]) -> CardSet | None:
        """Free cards for it, none of the excluded card groups, and none that are kept for others beyond its end."""
        job_class = entry.job_class
        cards = self.capacity.fit(job_class)
        if cards is None:
            return None
        by_group = self.reservations.by_group

        def allows(group: int, choice: Choice) -> bool:
            return group not in excluded and self.reservations.allows(
                group, job_class.gpus, self._ends(entry, choice), entry.owed
            )

        if any(group in by_group or group in excluded for group, _ in cards.parts):
            cards = self.capacity.fit(job_class, allows)
        if cards is not None and job_class.shares and not cards.side:
            beside = self.capacity.beside(job_class, allows)
            if beside is not None and self.scarcity.rather(beside, cards, job_class):
                return beside
        return cards

    def _ends(self, entry: Ranked, choice: Choice) -> float:
        """When a job that starts now ends, infinity where nobody knows."""
        left = entry.job.steps_left
        return math.inf if left is None else self.now + left * choice.step_s

    def _start(self, entry: Ranked, cards: CardSet) -> None:
        job, job_class = entry.job, entry.job_class
        first = self.capacity.layout.groups[cards.parts[0][0]].host
        self.starts[job.job_id] = Placement(first, cards.gpus, cards.choice, cards.side)
        self.capacity.draw(cards, job_class.shares, job.job_id)
        if cards.side and self._victims is not None:  # the job that was alone there no longer is
            self._victims.look_again(cards.parts[0][0])
        self.scarcity.served(entry, cards)
        if self.reservations.by_group:
            ends = self._ends(entry, cards.choice)
            for where, gpus in cards.parts:
                self.reservations.use(where, len(gpus), ends)
        self._count(entry)

    def _count(self, entry: Ranked) -> None:
        if self.fleet.projects:
            job = entry.job
            self.held[job.project] = self.held.get(job.project, 0) + job.spec.resources.gpus

    def _make_room(self, entry: Ranked) -> Preemption | None:
        if len(self.stops) >= self.rules.most_stops:
            return None
        if self._victims is None and not self._may_stop(entry):
            return None
        victims = self._victims = self._victims or self._search()
        # What is owed goes before what would borrow, though that has a reservation.
        by_group = self.reservations.by_group
        others = {where for where, held in by_group.items() if held.owed or not entry.owed}
        preemption = victims.clear(entry, entry.job_class, others, self._mine)
        if preemption is None:
            return None
        victims.keep(preemption)
        for where, gpus in preemption.parts:
            unheld = sum(gpu.held_by is None for gpu in gpus)
            until = self.now + self.rules.stop_s if preemption.stops else None
            self._cleared.setdefault(where, {})[entry.job.job_id] = (unheld, until)
        for victim in preemption.stops:
            text = f"stopped to make room for job {entry.job.job_id}; continues from its checkpoint later"
            self.stops[victim.job_id] = Reason(Code.PREEMPTED, text, {"for_job": entry.job.job_id})
        return preemption

    def _search(self) -> VictimSearch:
        hidden = self.nominations.hidden
        made = VictimSearch(
            self.rules, self.now, self.capacity, self.given.running, self.fleet.projects, hidden
        )
        self.nominations.soon = made.soon
        return made

    def _may_stop(self, entry: Ranked) -> bool:
        """Whether anything could give way to it, or does already: most of the time a look at the rules tells."""
        patient = self.now - since(entry.job) >= self.rules.patience_s
        if entry.owed or (patient and self.rules.policy in ("attained", "shortest")):
            return True
        return entry.job.priority > self._lowest

    def _nowhere(self, job: PendingJob) -> None:
        """No host could take it as it is now."""
        if not self.reasons:
            return
        job_class = self.given.classes.of(job)
        self.waits[job.job_id] = job_class.lacks
        if not job_class.untraced:
            return
        found = self._wants.get(job_class.number)
        if found is None:
            found = self._wants[job_class.number] = wants(job, self.fleet, job_class.misfits)
        untraced, uncounted = found
        # Of several jobs the first that came: the same whatever the order of the queue.
        for key, host_id in untraced.items():
            wanted = (job.job_id, host_id)
            self.traces[key] = min(self.traces.get(key, wanted), wanted)
        if uncounted is not None:
            wanted = (job.job_id, uncounted)
            self.counts[job.data_key] = min(self.counts.get(job.data_key, wanted), wanted)

    def _say(self, entry: Ranked) -> None:
        """Why a job waits that some card would take."""
        job, job_class = entry.job, entry.job_class
        if job.job_id in self.waits:
            return
        if self.fleet.projects and not self._may(entry):
            terms, runs = self.fleet.projects[job.project], self.given.held.get(job.project, 0)
            self.waits[job.job_id] = quota(job, terms, runs, self.held.get(job.project, 0))
            return
        reason = self._said.get(job_class.number)
        if reason is None:
            reason = self._said[job_class.number] = self._full(job, job_class)
        at = self.reservations.by_job.get(job.job_id)
        if at is None and self.rules.preempt and reason.code is Code.BUSY and self._may_stop(entry):
            self._victims = self._victims or self._search()
            self._notices = self._notices or MinRuntimeNotices(self._victims)
            reason = self._notices.told(reason, entry, job_class)
        self.waits[job.job_id] = (
            reason if at is None else with_reservation(reason, at, job, self.now, self.rules)
        )

    def _full(self, job: PendingJob, job_class: JobClass) -> Reason:
        """The same for each class that the same cards would do, except how much of them it takes."""
        first = job_class.tiers[0]
        same = (job_class.group_set, job_class.gpus, first.groups[0])
        reason = self._said.get(same)
        if reason is None:
            reason = crowded(job, job_class, self.capacity)
            if reason.code is Code.BEHIND:
                reason = reserved(
                    reason, job_class, self.capacity, self.reservations, self.nominations, self._cleared
                )
            self._said[same] = reason
        if "upper_bytes" not in reason.figures:
            return reason
        figures = {**reason.figures, "upper_bytes": first.choice.projection.upper_bytes}
        return Reason(reason.code, reason.text, figures)


def explain(job: PendingJob, fleet: Fleet, chooser: Chooser) -> Misfit | Placement:
    """Why one job waits, host by host, as if it were alone in the queue."""
    free = frozenset(
        gpu.id for host in fleet.hosts if host.open for gpu in host.gpus if gpu.usable and gpu.held_by is None
    )
    return place(job, fleet, free, chooser)
