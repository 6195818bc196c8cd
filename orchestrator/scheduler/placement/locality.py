"""The host where a queued job's checkpoint is: what going elsewhere costs, and which cards are worth that. Pure."""

from __future__ import annotations

import math

from orchestrator.scheduler.fleet import PendingJob
from orchestrator.scheduler.job_class import Classes, JobClass, Tier
from orchestrator.scheduler.placement.capacity import Capacity
from orchestrator.scheduler.policy import Rules, since


def carry_s(job: PendingJob, rules: Rules) -> float:
    """Seconds that a job's checkpoint takes to another host, infinity where nobody knows its size."""
    return job.checkpoint_bytes / rules.carry_bytes_s if job.checkpoint_bytes else math.inf


def at_home(
    job: PendingJob, job_class: JobClass, classes: Classes, capacity: Capacity, rules: Rules, now: float
) -> JobClass:
    """A job's class with what it costs to leave its host counted.

    Cards elsewhere that its policy puts before those at home, and on which it ends sooner though its checkpoint has to
    be carried, come before home. All others it takes once it has waited for home as long as leaving costs, and home
    still has no card free. A home that let it down has no such claim.
    """
    if job.home is None or (job.home in job.shaky and job.checkpoint_bytes):
        return job_class
    # Where carrying it takes longer than that, all of it may as well be done again.
    leaving_s = min(carry_s(job, rules), job.steps_done * job_class.tiers[0].choice.step_s)
    waited = now - since(job) >= leaving_s
    if job_class.gang:
        return job_class if waited else classes.with_host(job_class, job.home) or job_class
    local = classes.on_host(job_class, job.home)
    if local is None or (waited and not _has_room(local, capacity)):
        return job_class  # as all that go anywhere have it: what holds for one holds for all of them
    sooner = tuple(index for index, tier in enumerate(job_class.tiers) if pays(job, local, tier, rules))
    if not waited and not sooner:
        return local
    return classes.leaving(job_class, local, sooner, waited)


def pays(job: PendingJob, local: JobClass, there: Tier, rules: Rules) -> bool:
    """Whether a job prefers to go on there rather than at home: its policy says so, and it ends sooner all the same.

    local: its class at home.
    """
    here = local.tiers[0]
    if job.steps_left is None or there.key >= here.key:
        return False
    return job.steps_left * (here.choice.step_s - there.choice.step_s) > carry_s(job, rules)


def _has_room(local: JobClass, capacity: Capacity) -> bool:
    return local.shares or any(len(capacity.free[group]) >= local.gpus for group in local.groups)
