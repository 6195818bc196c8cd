"""Which jobs' checkpoints are no longer needed, and which of those that attempts reported are still on their hosts."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.messages.reports import HostReport
from jobs.state import JobState
from orchestrator.api.context import Services
from orchestrator.control.assignments import Owners
from orchestrator.store.rows import AttemptRow, JobRow
from workers.checkpoints.folders import step_of

# So that another job can continue from a checkpoint of one that failed or was cancelled.
KEEP_UNFINISHED_S = 7 * 86_400.0
# Why a checkpoint that an attempt reported is no longer there: nobody needs any of the job, or later ones replaced it.
UNNEEDED, REPLACED = "unneeded", "replaced"


def kept_orders(known: Services, news: HostReport) -> dict[str, Any]:
    """What is to become of the checkpoints that a host has, once in a while when it says so (fields of HostOrders)."""
    if not news.kept:
        return {}
    if not news.epoch:  # an older agent has no more than ids
        return {"drop": unneeded(known, news.kept)}
    strange = known.store.strange_jobs(news.kept_keys)
    ours = {one.job_id for one in news.kept_keys} - {one.job_id for one in strange}
    jobs = known.store.jobs_by_id(unneeded(known, ours))
    owners, drops = Owners(known.store, jobs), []
    for job in jobs.values():
        with contextlib.suppress(ValueError):  # a spec of another version: nobody can tell its weights
            drops.append(owners.of(job)["owner"])
    return {"strange_jobs": strange, "drops": drops}


def unneeded(known: Services, job_ids: Collection[int]) -> list[int]:
    """Those of the jobs whose checkpoints nobody goes on from: they ended long enough ago. Their hosts remove them."""
    now, asked_s = known.controller.clock(), known.settings.keep_checkpoints_s
    heirs = known.store.continued_by(job_ids)
    return [
        job.id
        for job in known.store.jobs_by_id(job_ids).values()
        if all(_may_go(one, now, asked_s) for one in (job, *heirs.get(job.id, ())))
    ]


def _may_go(job: JobRow, now: float, asked_s: float | None) -> bool:
    """Whether a job itself no longer needs its checkpoints. One that succeeded has its result."""
    default_s = 0.0 if job.state is JobState.SUCCEEDED else KEEP_UNFINISHED_S
    return job.ended_at is not None and now - job.ended_at >= (default_s if asked_s is None else asked_s)


@dataclass(frozen=True)
class Standing:
    """What is still there of an attempt's checkpoints. listed: as it reported them; gone: why nothing is, one of
    UNNEEDED and REPLACED; None: it had none, or some is.
    """

    listed: tuple[dict[str, Any], ...] = ()
    gone: str | None = None


def standing(attempts: Sequence[AttemptRow], removed: bool) -> dict[int, Standing]:
    """By attempt of one job. attempts: oldest first; removed: all of the job's checkpoints are.

    Its attempts on one host share a folder, in which the newest few are kept: what the last one reported is there.
    """
    found: dict[int, Standing] = {}
    there: dict[int, set[int]] = {}
    for attempt in reversed(attempts):
        last, listed = attempt.last_checkpoint, tuple(attempt.checkpoints or ())
        step = step_of(Path(last)) if last else None
        if (later := there.get(attempt.host_id)) is not None:
            last = last if step is None or step in later else None
            listed = tuple(one for one in listed if one["step"] in later)
        elif attempt.checkpoints is not None:
            there[attempt.host_id] = {one["step"] for one in listed} | ({step} if step is not None else set())
        had = bool(attempt.last_checkpoint or attempt.checkpoints)
        if had and (removed or not (last or listed)):
            found[attempt.id] = Standing(gone=UNNEEDED if removed else REPLACED)
        else:
            found[attempt.id] = Standing(listed)
    return found
