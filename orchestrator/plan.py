"""plan(fleet, now) -> Plan: who starts where, and why everybody else waits. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jobs.cards import Card
from jobs.ladder import Choice, NoFit, choose
from jobs.profile import MemoryProfile
from jobs.state import Code, Reason
from orchestrator.fleet import Fleet, Waiting
from orchestrator.placement import Chooser, Misfit, Placement, place


@dataclass(frozen=True)
class Plan:
    """What was decided from one snapshot.

    starts: job id -> where; waits: a reason for every job that did not start; traces: profile keys to trace, each with
    the job that needs it and the host to do it; counts: the same of lengths of data to count.
    """

    starts: Mapping[int, Placement] = field(default_factory=dict)
    waits: Mapping[int, Reason] = field(default_factory=dict)
    traces: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def plan(fleet: Fleet, now: float, chooser: Chooser | None = None) -> Plan:
    """Priority, then first come first served. A job may pass one that waits only on cards that one could not use."""
    pick = chooser or _uncalibrated
    free = {
        gpu.id for host in fleet.hosts if host.open for gpu in host.gpus if gpu.usable and gpu.held_by is None
    }
    starts: dict[int, Placement] = {}
    waits: dict[int, Reason] = {}
    traces: dict[str, tuple[int, int]] = {}
    counts: dict[str, tuple[int, int]] = {}
    for job in sorted(fleet.queue, key=_order):
        if job.not_before > now:
            # No clock in the text: a reason is written again whenever it changes.
            waits[job.job_id] = Reason(Code.BACKOFF, "rests after a failure", {"until": job.not_before})
            continue
        found = place(job, fleet, frozenset(free), pick)
        if isinstance(found, Placement):
            starts[job.job_id] = found
            free -= {gpu.id for gpu in found.gpus}
        else:
            waits[job.job_id] = found.reason
            free -= found.wanted
            for key, host_id in found.untraced.items():
                traces.setdefault(key, (job.job_id, host_id))
            if found.uncounted is not None:
                counts.setdefault(job.data_key, (job.job_id, found.uncounted))
    return Plan(starts, waits, traces, counts)


def _uncalibrated(job: Waiting, profile: MemoryProfile, card: Card, stack: str = "") -> Choice | NoFit:
    return choose(profile, job.spec, card)


def explain(job: Waiting, fleet: Fleet, chooser: Chooser) -> Misfit | Placement:
    """Why one job waits, host by host, as if it were alone in the queue."""
    free = frozenset(
        gpu.id for host in fleet.hosts if host.open for gpu in host.gpus if gpu.usable and gpu.held_by is None
    )
    return place(job, fleet, free, chooser)


def _order(job: Waiting) -> tuple[int, float, int]:
    return (-job.priority, job.submitted_at, job.job_id)
