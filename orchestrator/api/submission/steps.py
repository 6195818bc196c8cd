"""Jobs of a submission -> those, and behind them the steps that follow their training."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.jobfile.spec import JobSpec
from jobs.jobfile.steps import step_kind, step_specs
from orchestrator import schemas
from orchestrator.store.requests import NewJob, NewLink
from orchestrator.store.rows import JobRow


def with_steps(read: Sequence[tuple[JobSpec, NewJob]]) -> list[NewJob]:
    """The jobs in their order, then the steps of each. A step waits for the success of what comes before it."""
    made = [job for _, job in read]
    for place, (spec, job) in enumerate(read):
        before = place
        for written in step_specs(spec, job.spec):
            step = NewJob(
                *(written.get("name", ""), job.user, written, job.priority),
                project=job.project,
                links=(NewLink(before, here=True),),
                address=job.address,
                step_of=NewLink(place, here=True),
            )
            before = len(made)
            made.append(step)
    return made


def queued(rows: Sequence[JobRow]) -> list[schemas.StepQueued]:
    """The steps among jobs that were stored together."""
    return [
        {"job": row.id, "kind": step_kind(row.spec) or "", "of": row.step_of}
        for row in rows
        if row.step_of is not None
    ]
