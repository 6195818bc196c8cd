"""Rules of a scheduling policy, and the order that they put jobs in. Pure."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

from orchestrator.scheduler.fleet import Fleet, PendingJob, RunningJob
from orchestrator.scheduler.job_class import JobClass

Discipline = Literal["fair", "fifo", "shortest", "attained"]
DISCIPLINES: tuple[Discipline, ...] = ("fair", "fifo", "shortest", "attained")

CLASS_STEP = 25  # between low, normal and high (jobs.jobfile.fields.PRIORITIES)


@dataclass(frozen=True)
class Rules:
    """How jobs are ordered and who may be stopped for whom. Times in seconds, service in GPU-seconds.

    policy: inside a priority class. fair: by what project and user used lately, then first come first served; fifo;
    shortest: least projected GPU time left; attained: least GPU time held, by levels, for when durations can't be
    known. preempt: whether a job may be stopped for another; passing: whether a job may start before one that is ahead
    of it and can't. first_level_gpu_s, level_factor: the attained service at which level 1 begins, and how many times
    later each further one does. patience_s: how long a job waits for cards to come free before others of its own
    priority are stopped for it; min_run_s: no attempt is stopped sooner; promote_after_s: a job that waited so long in
    one go goes before the rest of its class; age_class_s: and for each such time it counts as one class higher, so
    that nobody starves. most_stops: jobs that one plan asks to stop at most, for all save at once, often to the same
    disks; the next plan goes on. stop_s, restart_s: what a preemption costs, to save and to get going again. gain: how
    many times longer than the waiting job a running one must have to go to be stopped for it (shortest). reserve: how
    many jobs that can't start have cards kept for them; reserve_after_s: how long such a job waits until those, too,
    keep off its cards of which nobody knows how long they take; they are taken to last guess_s; drain_after_s: how
    long it waits until all do, where nobody knows when its cards are free. yield_s: how long a job leaves alone what
    it can do without and others of its priority can't, such as a large card.
    share_slowdown: how many times longer than alone a step may take beside others on one card; beyond it the job that
    came last is stopped and goes on elsewhere.
    carry_bytes_s: bytes of a checkpoint that go from one host to another in a second, overhead included.
    move: whether a running job may be moved to other cards; move_after_s, move_share, move_least_s: not sooner in its
    attempt, and only if it ends sooner by that share of what it has left and by so long; move_spread: and its end is
    known to that share.
    """

    policy: Discipline = "fair"
    preempt: bool = True
    passing: bool = True
    first_level_gpu_s: float = 3600.0
    level_factor: float = 4.0
    min_run_s: float = 300.0
    patience_s: float = 300.0
    promote_after_s: float = 6 * 3600.0
    age_class_s: float = 86_400.0
    most_stops: int = 64
    stop_s: float = 40.0
    restart_s: float = 60.0
    gain: float = 2.0
    reserve: int = 8
    reserve_after_s: float = 1800.0
    guess_s: float = 600.0
    drain_after_s: float = 3 * 86_400.0
    yield_s: float = 1800.0
    share_slowdown: float = 1.5
    carry_bytes_s: float = 100 * 2.0**20
    move: bool = False
    move_after_s: float = 1800.0
    move_share: float = 0.25
    move_least_s: float = 900.0
    move_spread: float = 0.1

    def reservations(self, promoted: bool) -> int:
        """How many there may be at a time for such a job to get one.

        Where smaller jobs may be stopped for a gang, idle cards cost more than they gain, until it was promoted: from
        then on it must come to its turn.
        """
        if promoted:
            return self.reserve
        return 0 if self.preempt and self.policy in ("shortest", "attained") else self.reserve

    def level(self, attained_gpu_s: float) -> int:
        """The level of a job that held so many GPU-seconds, 0 for the newest."""
        if attained_gpu_s < self.first_level_gpu_s:
            return 0
        return 1 + int(math.log(attained_gpu_s / self.first_level_gpu_s, self.level_factor))

    def next_level_at(self, attained_gpu_s: float) -> float:
        """The attained service at which the next level begins."""
        return self.first_level_gpu_s * self.level_factor ** self.level(attained_gpu_s)

    def aged(self, job: PendingJob, now: float) -> int:
        """Its priority, raised by a class for every age_class_s that it waits."""
        waited = now - since(job)
        return (
            min(100, job.priority + CLASS_STEP * int(waited // self.age_class_s))
            if waited > 0
            else job.priority
        )

    def promoted(self, job: PendingJob, now: float) -> bool:
        return now - since(job) >= self.promote_after_s

    def same_until(self, job: PendingJob, now: float) -> float:
        """Until when a job's rank does not change by time alone; a moment sooner, for rounding."""
        began = since(job)
        steps = max(0.0, now - began) // self.age_class_s + 1
        aged = began + steps * self.age_class_s
        once = (began + self.promote_after_s, began + self.patience_s)
        return min([aged, *(at for at in once if at > now)]) - 1e-3

    def left_gpu_s(self, job: PendingJob, step_s: float) -> float:
        """GPU time that a waiting job has to go; a guess where nobody knows: as much again as it had.

        Durations of such jobs have heavy tails: one that ran for t is expected to run for another t or so.
        """
        gpus = job.spec.resources.gpus
        if job.steps_left is not None:
            return job.steps_left * step_s * gpus
        return max(job.attained_gpu_s, self.min_run_s * gpus)

    def left_of(self, job: RunningJob, now: float) -> float:
        """The same of a running one."""
        gpus = len(job.gpu_ids)
        if job.ends_at is not None:
            return max(0.0, job.ends_at - now) * gpus
        return max(attained(job, now), self.min_run_s * gpus)


def since(job: PendingJob) -> float:
    """When it began to wait."""
    return job.submitted_at if job.waiting_since is None else job.waiting_since


def attained(job: RunningJob, now: float) -> float:
    """GPU-seconds held so far, this attempt's among them."""
    return job.attained_gpu_s + (now - job.started_at) * len(job.gpu_ids)


@dataclass(slots=True)
class Ranked:
    """A queued job with what it is ranked by, lower first.

    score: by the policy alone, what preemption compares; owed: it stays within what its project is guaranteed;
    equivalence: of jobs where it is the same one finds cards, or may stop others for them, only if all with a lower
    score do.
    """

    job: PendingJob
    job_class: JobClass
    score: float
    key: tuple[float, ...]
    owed: bool
    equivalence: tuple[Hashable, ...]

    def outranks(self, other: Ranked) -> bool:
        """Whether it may have what was cleared for the other.

        One of a higher class, one that is owed, or promoted may; none may borrow what the other is owed.
        """
        return self.key[:3] < other.key[:3] and (self.owed or not other.owed)

    def unowed(self) -> Ranked:
        """The same once its project has all that it is guaranteed."""
        return Ranked(
            self.job, self.job_class, self.score, unowed_key(self.key), False, (False, *self.equivalence[1:])
        )


def unowed_key(key: tuple[float, ...]) -> tuple[float, ...]:
    """What a job is ranked by once its project has all that it is guaranteed."""
    return (key[0], 1.0, *key[2:])


def rank(
    job: PendingJob,
    job_class: JobClass,
    rules: Rules,
    now: float,
    owed: bool,
    nominated: bool = False,
    by_project: bool = False,
) -> Ranked:
    """owed: it stays within what its project is guaranteed; nominated: others were stopped for it already.

    by_project: whether projects have terms, so that whom it may stop depends on its own.
    """
    began = since(job)
    waited = now - began
    urgent = 0.0 if waited >= rules.promote_after_s else 1.0
    priority = rules.aged(job, now) if waited >= rules.age_class_s else job.priority
    score = 0.0
    if rules.policy == "attained":
        score = 0.0 if not urgent else float(rules.level(job.attained_gpu_s))
    elif rules.policy == "shortest":
        score = rules.left_gpu_s(job, job_class.step_s) if urgent else 0.0
    # Who was promised cards comes first among those that could not claim them from it.
    turn = 0.0 if nominated else 1.0
    key = (-priority, 0.0 if owed else 1.0, urgent, turn, score, began, job.submitted_at, job.job_id)
    equivalence = (
        owed,
        job.job_id if nominated else None,  # nobody else finds the cards that it was promised
        job.priority,
        job.project if by_project else None,
        waited >= rules.patience_s,
        job_class.gpus,
        job_class.across,
        job_class.number if job_class.shares else None,
        job_class.group_set,
    )
    return Ranked(job, job_class, score, key, owed, equivalence)


def held_by_project(fleet: Fleet) -> dict[str, int]:
    """GPUs that each project holds, those that are being given back left out."""
    held: dict[str, int] = {}
    for job in fleet.running:
        if job.stopping_until is None:
            held[job.project] = held.get(job.project, 0) + len(job.gpu_ids)
    return held
