"""The one door to what the scheduler keeps from plan to plan: told what happens, it gives what a plan is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.scheduler.cache.job_classes import JobClasses
from orchestrator.scheduler.cache.pending_queue import PendingQueue, RankContext
from orchestrator.scheduler.cache.running_index import Promised, RunningIndex
from orchestrator.scheduler.feasibility import Chooser
from orchestrator.scheduler.fleet import Fleet, PendingJob, RunningJob
from orchestrator.scheduler.job_class import JobClass
from orchestrator.scheduler.placement.capacity import Capacity
from orchestrator.scheduler.placement.locality import at_home
from orchestrator.scheduler.policy import Rules


@dataclass(frozen=True)
class PlanInput:
    """What a plan is made from; plan() changes nothing in it.

    queue: the jobs of the fleet, ranked; capacity: what is free; running: who runs where; held: GPUs by project;
    promised: cards that others were stopped for; classes: of jobs, worked out when somebody asks.
    """

    fleet: Fleet
    now: float
    rules: Rules
    queue: PendingQueue
    capacity: Capacity
    running: RunningIndex
    held: Mapping[str, int]
    promised: Promised
    classes: JobClasses = field(compare=False)


class SchedulerCache:
    """What is kept from plan to plan. An empty one gives the same plans.

    A caller that has snapshots only (the server) calls observe() with each. One that knows what happens (a simulation)
    observes the fleet once, and then tells each event: submitted, started, changed, ended. Both then ask for
    plan_input(). Not safe to use from several threads.
    """

    def __init__(self, chooser: Chooser) -> None:
        self._classes = JobClasses(chooser)
        self._queue = PendingQueue()
        self._capacity = Capacity.of(Fleet((), (), {}))
        self._running = self._indexed(())

    def observe(self, fleet: Fleet) -> None:
        """The fleet is as this snapshot says."""
        self._capacity = Capacity.of(fleet)
        self._classes.look(self._capacity.layout, fleet.profiles)
        self._running = self._indexed(fleet.running)
        self._queue.observe(fleet.queue)

    def submitted(self, job: PendingJob) -> None:
        """A job waits from now on."""
        self._queue.submitted(job)

    def started(self, job: RunningJob) -> None:
        """A job that waited has cards from now on."""
        self._queue.left(job.job_id)
        self._capacity.take(job.gpu_ids)
        self._running.lasting = True
        self._running.started(job)

    def changed(self, before: RunningJob, after: RunningJob) -> None:
        """What is known of a running job is another now."""
        self._running.changed(before, after)

    def ended(self, job: RunningJob) -> None:
        """A running job has given its cards back."""
        self._capacity.give(job.gpu_ids)
        self._running.ended(job)

    def learnt(self) -> None:
        """The chooser may choose otherwise than it did."""
        self._classes.forget()

    def nothing_to_give(self, fleet: Fleet, rules: Rules) -> bool:
        """Whether it is plain at a glance that a plan is empty: no card is free, and nobody may stop anybody."""
        capacity, running = self._capacity, self._running
        if any(capacity.free) or capacity.left_bytes or running.stopping or fleet.cleared or rules.move:
            return False
        if not rules.preempt:
            return True
        if rules.policy in ("attained", "shortest") or fleet.projects:
            return False
        return max((job.priority for job in fleet.queue), default=0) <= running.lowest

    def plan_input(self, fleet: Fleet, now: float, rules: Rules) -> PlanInput:
        """What a plan is made from: the queue ranked. fleet: as it was observed, with all that happened since."""
        self._running.ready(rules, fleet.projects, now)
        promised = self._running.promised(fleet.cleared, self._capacity.to_itself)
        held = dict(self._running.held) if fleet.projects else {}

        def home(job: PendingJob, job_class: JobClass) -> JobClass:
            return at_home(job, job_class, self._classes, self._capacity, rules, now)

        self._queue.look(
            RankContext(now, rules, fleet.projects, held, promised.cards.keys(), self._classes.of, home)
        )
        return PlanInput(
            fleet, now, rules, self._queue, self._capacity, self._running, held, promised, self._classes
        )

    def _indexed(self, running: tuple[RunningJob, ...]) -> RunningIndex:
        layout = self._capacity.layout
        return RunningIndex.of(running, self._capacity.free, layout.sizes, layout.groups_of)
