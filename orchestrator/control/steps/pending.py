"""Queued steps, and the rows of a round without them: the planner of cards never sees a step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jobs.state import Code, JobState, Reason
from orchestrator.control.snapshot.progress import blocked_of, held_of
from orchestrator.scheduler.steps import PendingStep
from orchestrator.store.rows import AttemptRow, FleetRows, JobRow, LinkRow


@dataclass(frozen=True)
class StepRows:
    """The steps of one instant: queued ones, and open attempts of others."""

    queued: Sequence[JobRow] = ()
    attempts: Sequence[AttemptRow] = ()
    links: Mapping[int, Sequence[LinkRow]] = field(default_factory=dict)

    @property
    def running(self) -> dict[int, int]:
        """The step on each host that has one."""
        return {attempt.host_id: attempt.job_id for attempt in self.attempts}


def parted(rows: FleetRows) -> tuple[FleetRows, StepRows]:
    """The rows of jobs that train, and those of steps."""
    waiting = [job for job in rows.queued if job.step_of is not None]
    on = {job.id for job in rows.running if job.step_of is not None}
    if not waiting and not on:
        return rows, StepRows()
    trains = dataclasses.replace(
        rows,
        queued=[job for job in rows.queued if job.step_of is None],
        running=[job for job in rows.running if job.step_of is None],
        attempts=[attempt for attempt in rows.attempts if attempt.job_id not in on],
    )
    open_jobs = {attempt.job_id for attempt in rows.attempts}
    steps = StepRows(
        [job for job in waiting if job.id not in open_jobs],
        [attempt for attempt in rows.attempts if attempt.job_id in on],
        rows.links,
    )
    return trains, steps


def pending_step(job: JobRow, links: Sequence[LinkRow], made: AttemptRow | None) -> PendingStep:
    """A queued step for the planner. made: the attempt whose result it works on, None: there is none."""
    blocked = held_of(job) or blocked_of(links)
    if blocked is None and made is None:
        text = f"job {job.step_of} has no result to work on"
        blocked = Reason(Code.AFTER, text, {"after": [job.step_of]})
    return PendingStep(
        job_id=job.id,
        priority=job.priority,
        host=None if made is None else made.host_id,
        not_before=job.not_before or 0.0,
        rests=job.reason if job.reason.code in (Code.BACKOFF, Code.STORAGE) else None,
        blocked=blocked,
        revision=job.revision,
    )


def result_of(job: JobRow | None, attempts: Sequence[AttemptRow]) -> AttemptRow | None:
    """The attempt that made the result of a job; None where it has none."""
    if job is None or job.state is not JobState.SUCCEEDED:
        return None
    return next((attempt for attempt in reversed(attempts) if attempt.result), None)
