"""simulate(): a trace through plan() on a virtual clock. Only the clock and the training are pretended."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Literal

from jobs.cards import Card
from jobs.errors import UsageError
from jobs.jobfile.fields import Policy
from jobs.jobfile.spec import JobSpec, parse_spec
from jobs.memory.ladder import Choice, NoFit
from jobs.memory.profile import MemoryProfile
from jobs.memory.projection import Projection
from jobs.memory.rung import Rung
from jobs.state import Code, Reason
from orchestrator.scheduler.cache.scheduler_cache import PlanInput, SchedulerCache
from orchestrator.scheduler.fleet import Fleet, Host, PendingJob, Project, RunningJob
from orchestrator.scheduler.placement.place import Placement
from orchestrator.scheduler.plan import Plan, plan
from orchestrator.scheduler.policy import Rules, attained
from orchestrator.simulate.trace import Ran, TraceJob
from orchestrator.simulate.usage import Usage

Watch = Callable[[PlanInput, Plan], None]
Known = Literal["never", "soon", "told"]
SOON_S = 60.0  # a trainer's pace is known after so long
POOL = "pool"  # the label of hosts that only jobs of that pool may use


class _Event(IntEnum):
    """What can happen, in the order in which things of one instant do."""

    ENDS = 0
    FREED = 1  # a stopped job has given its cards back
    KNOWN = 2  # how long a running job goes on is known from now on
    LOOK = 3  # time alone may change the plan


# Traces know nothing of memory: every job has one rung, whose step is the whole job or one second of it.
_RUNG = Rung(0, 1)
_PROFILE = MemoryProfile(1, 0, 0, 0, 0, 0, 0, 1, False, None, None, {})
_KEY = "trace"


@dataclass(slots=True)
class _Job:
    """A job of the trace under way. left: steps of it to go, where a step is `step_s` on the cards it has."""

    trace: TraceJob
    ran: Ran
    spec: JobSpec
    left: float
    told: bool
    queued_at: float
    version: int = 0
    attained_gpu_s: float = 0.0
    began: float = 0.0
    ready: float = 0.0
    step_s: float = 1.0

    def left_at(self, now: float) -> float:
        """The same while it runs."""
        return self.left - max(0.0, now - self.ready) / self.step_s


@dataclass(slots=True)
class _Pool:
    """Hosts that only certain jobs use, and those jobs: what happens in one does not bear on another."""

    hosts: tuple[Host, ...]
    cache: SchedulerCache
    usage: Usage
    waiting: dict[int, PendingJob] = field(default_factory=dict)
    running: dict[int, RunningJob] = field(default_factory=dict)
    cleared: dict[int, int] = field(default_factory=dict)


def simulate(
    jobs: Sequence[TraceJob],
    fleet: Sequence[Host],
    rules: Rules | None = None,
    projects: Mapping[str, Project] | None = None,
    *,
    known: Known = "soon",
    stop_s: float | None = None,
    restart_s: float | None = None,
    card_policy: Policy = "smallest_card",
    watch: Watch | None = None,
) -> list[Ran]:
    """What becomes of each job, in the order given. Jobs of the same second are taken in that order.

    known: what the scheduler knows of durations: never anything; soon: after the first SOON_S of running; told: all,
    from the start. stop_s, restart_s: what a preemption really takes, None: as the rules expect. card_policy: of all
    jobs, where the trace knows their time by card. watch: is shown what each plan was made from, as it was
    before, and what was decided.
    """
    given = rules or Rules()
    return _Simulation(
        given,
        dict(projects or {}),
        known,
        given.stop_s if stop_s is None else stop_s,
        given.restart_s if restart_s is None else restart_s,
        watch,
        card_policy,
    ).run(jobs, tuple(fleet))


class _Simulation:
    def __init__(
        self,
        rules: Rules,
        projects: dict[str, Project],
        known: Known,
        stop_s: float,
        restart_s: float,
        watch: Watch | None = None,
        card_policy: Policy = "smallest_card",
    ) -> None:
        self.rules, self.projects, self.known = rules, projects, known
        self.stop_s, self.restart_s, self.watch = stop_s, restart_s, watch
        self.card_policy = card_policy
        self.counts = rules.policy == "fair"  # usage, which no other policy asks for
        self.events: list[tuple[float, int, int, int, int]] = []  # time, what, order, index of job, version
        self.jobs: list[_Job] = []
        self.pools: list[_Pool] = []
        self.pool_of: list[int] = []
        self.dirty: set[int] = set()
        self.order = 0
        self.plans = 0

    def run(self, trace: Sequence[TraceJob], hosts: tuple[Host, ...]) -> list[Ran]:
        self._set_up(trace, hosts)
        arrivals = sorted(range(len(trace)), key=lambda index: trace[index].submit_s)
        events, jobs, at = self.events, self.jobs, 0
        while events or at < len(arrivals):
            now = events[0][0] if events else trace[arrivals[at]].submit_s
            if at < len(arrivals):
                now = min(now, trace[arrivals[at]].submit_s)
            while events and events[0][0] <= now:
                _, what, _, index, version = heapq.heappop(events)
                if version == jobs[index].version:
                    self._happens(_Event(what), index, now)
            while at < len(arrivals) and trace[arrivals[at]].submit_s <= now:
                self._queue(arrivals[at], now)
                at += 1
            for number in sorted(self.dirty):
                self._plan(self.pools[number], now)
            self.dirty.clear()
        return [job.ran for job in jobs]

    def _set_up(self, trace: Sequence[TraceJob], hosts: tuple[Host, ...]) -> None:
        by_label: dict[str, list[Host]] = {}
        for host in hosts:
            by_label.setdefault(host.labels.get(POOL, ""), []).append(host)
        # Jobs that are confined to no pool tie all of them together.
        apart = all(job.pool for job in trace)
        groups = by_label if apart else {"": list(hosts)}
        numbers = {}
        for name, members in groups.items():
            numbers[name] = len(self.pools)
            empty = Fleet(tuple(members), (), {_KEY: _PROFILE})
            cache = SchedulerCache(choose)
            cache.observe(empty)
            usage = Usage.of(members, min(job.submit_s for job in trace))
            self.pools.append(_Pool(empty.hosts, cache, usage))
        sizes = {name: sum(len(host.gpus) for host in members) for name, members in groups.items()}
        stacks = {host.stack_id: _KEY for host in hosts}
        self.keys = stacks
        specs: dict[tuple[int, str], JobSpec] = {}
        for job in trace:
            group = job.pool if apart else ""
            if group not in numbers:
                raise UsageError(f"job {job.job_id}: no host has the label {POOL}={job.pool}")
            most = sizes[group]
            if job.gpus > most:
                raise UsageError(
                    f"job {job.job_id}: asks for {job.gpus} GPUs, {job.pool or 'the fleet'} has {most}"
                )
            spec = specs.get((job.gpus, job.pool))
            if spec is None:
                spec = specs[job.gpus, job.pool] = _spec(job, self.card_policy)
            self.pool_of.append(numbers[group])
            left = job.duration_s if job.seconds_by_card is None else 1.0
            self.jobs.append(_Job(job, Ran(job), spec, left, self.known == "told", job.submit_s))

    def _push(self, at: float, what: _Event, index: int) -> None:
        self.order += 1
        heapq.heappush(self.events, (at, what, self.order, index, self.jobs[index].version))

    def _queue(self, index: int, now: float) -> None:
        job, pool = self.jobs[index], self.pools[self.pool_of[index]]
        job.queued_at = now
        joins = pool.waiting[index] = self._waits(index, now, job.left)
        pool.cache.submitted(joins)
        self.dirty.add(self.pool_of[index])
        self._push(now + self.rules.promote_after_s, _Event.LOOK, index)
        if self.rules.preempt and self.rules.patience_s:
            self._push(now + self.rules.patience_s, _Event.LOOK, index)

    def _waits(self, index: int, now: float, left: float) -> PendingJob:
        """The job as it waits, or would if it were stopped now. left: steps to go."""
        job = self.jobs[index]
        trace = job.trace
        return PendingJob(
            index,
            job.spec,
            trace.priority,
            trace.submit_s,
            self.keys,
            project=trace.project,
            user=trace.user,
            waiting_since=now,
            attained_gpu_s=job.attained_gpu_s,
            steps_left=left if job.told else None,
            across=True,
            shape=(trace.gpus, trace.pool, trace.seconds_by_card),
        )

    def _happens(self, what: _Event, index: int, now: float) -> None:
        job, number = self.jobs[index], self.pool_of[index]
        pool = self.pools[number]
        if what is _Event.LOOK:
            if index in pool.running and pool.waiting:
                self._look_again(index, now)
            if self._has_choice(pool):
                self.dirty.add(number)
            return
        running = pool.running[index]
        if what is _Event.KNOWN:
            job.told = True
            told = replace(running, ends_at=job.ready + job.left * job.step_s)
            pool.cache.changed(running, told)
            pool.running[index] = told
        elif what is _Event.ENDS:
            self._release(index, running, now)
            job.ran.end_s = now
        else:
            self._release(index, running, now)
            self._queue(index, now)
            if running.stopping_for in pool.waiting:
                pool.cleared |= dict.fromkeys(running.gpu_ids, running.stopping_for)
        if self._has_choice(pool):
            self.dirty.add(number)

    def _has_choice(self, pool: _Pool) -> bool:
        """Whether there is anything to plan."""
        return bool(pool.waiting) or (self.rules.move and bool(pool.running))

    def _release(self, index: int, running: RunningJob, now: float) -> None:
        """The job's cards are free from now on."""
        job, pool = self.jobs[index], self.pools[self.pool_of[index]]
        held = (now - job.began) * len(running.gpu_ids)
        job.version += 1
        job.attained_gpu_s += held
        job.ran.gpu_s += held
        if self.counts:
            pool.usage.ends(index, now)
        pool.cache.ended(running)
        del pool.running[index]

    def _plan(self, pool: _Pool, now: float) -> None:
        if not self._has_choice(pool):
            return
        self.plans += 1
        fleet = Fleet(
            pool.hosts,
            tuple(pool.waiting.values()),
            {_KEY: _PROFILE},
            tuple(pool.running.values()),
            self.projects,
            pool.usage.look(now) if self.counts else {},
            movable=self._movable(pool, now),
            cleared=pool.cleared,
        )
        if self.watch is None and pool.cache.nothing_to_give(fleet, self.rules):
            return
        given = pool.cache.plan_input(fleet, now, self.rules)
        decided = plan(given, reasons=False)
        if self.watch is not None:
            self.watch(given, decided)
        for index, reason in decided.stops.items():
            self._stop(index, reason.figures.get("for_job"), pool, now)
        for index, placement in decided.starts.items():
            self._start(index, pool, placement, now)

    def _movable(self, pool: _Pool, now: float) -> dict[int, PendingJob]:
        if not self.rules.move:
            return {}
        return {index: self._waits(index, now, self.jobs[index].left_at(now)) for index in pool.running}

    def _start(self, index: int, pool: _Pool, placement: Placement, now: float) -> None:
        job = self.jobs[index]
        del pool.waiting[index]
        job.version += 1
        gpu_ids = tuple(gpu.id for gpu in placement.gpus)
        if pool.cleared:
            kept = pool.cleared.items()
            pool.cleared = {gpu: to for gpu, to in kept if to != index and gpu not in gpu_ids}
        again = job.ran.first_start_s is not None
        if not again:
            job.ran.first_start_s = now
        job.ran.waited_s += now - job.queued_at
        job.ran.card = placement.gpus[0].name
        job.began, job.ready = now, now + (self.restart_s if again else 0.0)
        job.step_s = placement.choice.step_s
        ends = job.ready + job.left * job.step_s
        pool.running[index] = RunningJob(
            index,
            job.version,
            placement.host.id,
            gpu_ids,
            job.trace.priority,
            job.trace.submit_s,
            now,
            job.trace.project,
            job.trace.user,
            job.attained_gpu_s,
            ends if job.told else None,
        )
        pool.cache.started(pool.running[index])
        if self.counts:
            pool.usage.begins(index, (job.trace.project, job.trace.user), gpu_ids, now)
        self._push(ends, _Event.ENDS, index)
        if not job.told and self.known == "soon" and ends > now + SOON_S:
            self._push(now + SOON_S, _Event.KNOWN, index)
        if self.rules.preempt:
            self._push(now + self.rules.min_run_s, _Event.LOOK, index)
        if self.rules.move:
            self._push(now + self.rules.move_after_s, _Event.LOOK, index)

    def _look_again(self, index: int, now: float) -> None:
        """When the job's level goes up, others may take its place."""
        if self.rules.policy == "attained":
            running = self.pools[self.pool_of[index]].running[index]
            had = attained(running, now)
            at = now + (self.rules.next_level_at(had) - had) / len(running.gpu_ids)
            self._push(max(at, now + 1.0), _Event.LOOK, index)

    def _stop(self, index: int, for_index: int | None, pool: _Pool, now: float) -> None:
        """for_index: who gets its cards, None: it moves."""
        job = self.jobs[index]
        job.left = job.left_at(now)
        job.version += 1
        if for_index is None:
            job.ran.moves += 1
        else:
            job.ran.preemptions += 1
        until = now + self.stop_s
        stopped = replace(pool.running[index], stopping_until=until, stopping_for=for_index, ends_at=None)
        pool.cache.changed(pool.running[index], stopped)
        pool.running[index] = stopped
        self._push(until, _Event.FREED, index)


def _spec(job: TraceJob, card_policy: Policy) -> JobSpec:
    """A job file that asks for what the trace's job had."""
    labels = {POOL: job.pool} if job.pool else {}
    resources = {"gpus": job.gpus, "labels": labels, "policy": card_policy}
    batch = {"global_batch": job.gpus}
    return parse_spec({"model": "trace/job", "data": "trace/job", "resources": resources, "training": batch})


def choose(job: PendingJob, profile: MemoryProfile, card: Card, stack: str = "") -> Choice | NoFit:
    """One rung; where the trace knows seconds by card, only on cards that it names."""
    step_s = 1.0
    assert isinstance(job.shape, tuple)
    by_card = job.shape[2]
    projection = Projection(_RUNG, {}, "", 0, 0, 0, 0, step_s)
    if by_card is not None:
        found = dict(by_card).get(card.name)
        if found is None:
            return NoFit(Reason(Code.MEMORY, f"does not fit {card.name}"), (), projection)
        projection = Projection(_RUNG, {}, "", 0, 0, 0, 0, found)
    return Choice(_RUNG, projection, 0.0, ())
