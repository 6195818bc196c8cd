"""What surrounds a start: the order of its ranks, and jobs for which no start is left."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from jobs.messages.reports import Ended
from jobs.recovery import nothing_smaller
from jobs.state import Code, Outcome
from orchestrator.control.outcomes import where
from orchestrator.control.snapshot.cache import SnapshotCache
from orchestrator.scheduler.fleet import Fleet, Gpu
from orchestrator.scheduler.placement.place import Misfit
from orchestrator.scheduler.plan import Plan, explain
from orchestrator.store import Store
from orchestrator.store.rows import AttemptRow

# A start that came to nothing may be Ray's fault; the second in a row on a host is that host's.
SUSPECT_AFTER = 2


def fail_what_can_not_shrink(
    store: Store, snapshot_cache: SnapshotCache, decided: Plan, fleet: Fleet, now: float
) -> None:
    """End the jobs that ran out of memory and fit no card of the fleet any more, were all of them up and free."""
    hosts = tuple(
        dataclasses.replace(
            host,
            online=True,
            drained=False,
            fault=None,
            gpus=tuple(dataclasses.replace(gpu, held_by=None, fault=None) for gpu in host.gpus),
        )
        for host in fleet.hosts
    )
    for job in fleet.queue:
        reason = decided.waits.get(job.job_id)
        if not job.ran_out or reason is None or reason.code is not Code.MEMORY:
            continue
        found = explain(job, dataclasses.replace(fleet, hosts=hosts), snapshot_cache.choose)
        if isinstance(found, Misfit) and found.reason.code is Code.MEMORY:
            store.fail_queued(job.job_id, nothing_smaller(job.ran_out, job.spec, found.reason), now)


def in_rank_order(gpus: Sequence[Gpu], home: int | None, host_of: Mapping[int, int]) -> tuple[Gpu, ...]:
    """Those of one host together; first, for rank 0, those of the host where the job's checkpoint is."""
    hosts = sorted(dict.fromkeys(host_of[gpu.id] for gpu in gpus), key=lambda host_id: host_id != home)
    return tuple(sorted(gpus, key=lambda gpu: hosts.index(host_of[gpu.id])))


def suspected(store: Store, attempt: AttemptRow, ended: Ended, since: float) -> frozenset[int]:
    """The hosts on which nothing has come up lately, as the end of this attempt says, too.

    since: when this dispatcher took over: what came to nothing before may be the fault of the one before it.
    """
    if ended.outcome is not Outcome.NOT_STARTED or attempt.started_at is not None:
        return frozenset()
    return frozenset(
        host_id
        for host_id in where(attempt, ended)
        if store.not_started_in_a_row(host_id, attempt.id, since) + 1 >= SUSPECT_AFTER
    )
