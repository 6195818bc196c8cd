"""plan_steps(...) -> StepPlan: which steps start, each on the host that has what it works on. Pure.

A step takes no card: it takes its host's only place for steps, and never holds up a job that trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jobs.state import Code, Reason
from orchestrator.scheduler.fleet import Host


@dataclass(frozen=True)
class PendingStep:
    """A queued step. host: where the result lies that it works on, None: nowhere; not_before: the end of a back-off;
    rests: why it backs off; blocked: why it may not start wherever that is; revision: of its job file.
    """

    job_id: int
    priority: int = 50
    host: int | None = None
    not_before: float = 0.0
    rests: Reason | None = None
    blocked: Reason | None = None
    revision: int = 0


@dataclass(frozen=True)
class StepPlan:
    """starts: step -> host; waits: a reason for every other step."""

    starts: Mapping[int, int] = field(default_factory=dict)
    waits: Mapping[int, Reason] = field(default_factory=dict)


def plan_steps(
    steps: Sequence[PendingStep],
    hosts: Sequence[Host],
    running: Mapping[int, int],
    able: frozenset[int],
    now: float,
) -> StepPlan:
    """One step at a time on each host, the highest priority first, and of equal ones the oldest.

    running: the step on a host, by host; able: hosts whose version runs steps.
    """
    by_id = {host.id: host for host in hosts}
    taken = dict(running)
    starts: dict[int, int] = {}
    waits: dict[int, Reason] = {}
    for step in sorted(steps, key=lambda step: (-step.priority, step.job_id)):
        reason = _obstacle(step, by_id, taken, able, now)
        if reason is None and step.host is not None:
            starts[step.job_id] = step.host
            taken[step.host] = step.job_id
        elif reason is not None:
            waits[step.job_id] = reason
    return StepPlan(starts, waits)


def _obstacle(
    step: PendingStep, hosts: Mapping[int, Host], taken: Mapping[int, int], able: frozenset[int], now: float
) -> Reason | None:
    """The first thing that keeps it from starting."""
    if step.blocked is not None:
        return step.blocked
    if step.not_before > now:
        why = step.rests or Reason(Code.BACKOFF, "waits after a failure")
        return Reason(why.code, why.text, {**why.figures, "until": step.not_before})
    host = hosts.get(step.host) if step.host is not None else None
    if host is None:
        return Reason(Code.NO_HOST, "no host has the result that it works on")
    has = f"host {host.name} has the result that it works on, and"
    if not host.online:
        return Reason(Code.NO_HOST, f"{has} {'was stopped' if host.left else 'does not answer'}")
    if host.drained:
        return Reason(Code.NO_HOST, f"{has} is drained")
    if host.fault is not None:
        return Reason(Code.NO_HOST, f"{has} can't start anything: {host.fault}")
    if host.id not in able:
        return Reason(Code.NO_HOST, f"{has} has a version of tuneyard that runs no steps: upgrade it")
    if (other := taken.get(host.id)) is not None:
        text = f"{has} runs one step at a time: that of job {other} now"
        return Reason(Code.BUSY, text, {"held_by_jobs": [other]})
    if not host.ray_ready:
        return Reason(Code.BUSY, f"{has} its Ray worker is still coming up")
    return None
