"""The route that submits an ended job again, with changes, from the checkpoint that it has come to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import Conflict, Fault, NotFound, SpecError
from jobs.jobfile.changes import fixed
from jobs.jobfile.resume_compatibility import Change, Effect, changes
from jobs.jobfile.spec import JobSpec
from jobs.state import JobState, Outcome
from jobs.units import counted
from orchestrator import schemas
from orchestrator.api.actors import actor
from orchestrator.api.checkpoints import unneeded
from orchestrator.api.context import Services
from orchestrator.api.edge.refusals import raises
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.responses import views
from orchestrator.api.responses.next_steps import Source
from orchestrator.api.routes.changes import resolved
from orchestrator.api.routes.jobs import services
from orchestrator.api.submission.idempotency import key_of
from orchestrator.api.submission.steps import with_steps
from orchestrator.api.submission.validation import JobInput, check_secrets, read_job
from orchestrator.control.snapshot.progress import checkpoint_step, newest
from orchestrator.store.requests import NewJob
from orchestrator.store.rows import JobRow

router = APIRouter(route_class=Surviving)


class Wanted(BaseModel):
    """Body of POST /jobs/JOB/requeue. overrides: values by dotted key, laid over the job file; base_dir: of relative

    paths in them; from_start: not to go on from a checkpoint.
    """

    model_config = ConfigDict(extra="forbid")

    overrides: dict[str, Any] = Field(default_factory=dict)
    base_dir: str | None = None
    from_start: bool = False


@router.post("/jobs/{job}/requeue", status_code=201, responses=raises(NotFound, Conflict))
def requeue(request: Request, job: str, wanted: Wanted | None = None) -> schemas.Requeued:
    """Submit an ended job again, as a new one: it goes on from the newest checkpoint unless its weights are others."""
    known = services(request)
    wanted = wanted or Wanted()
    key = key_of(request, wanted.model_dump_json().encode())
    if key is not None and (taken := known.store.taken(key)) is not None:
        return _made_before(known, taken.rows[0])
    row = known.store.find_job(job)
    if not row.ended:
        raise Conflict(f"job {row.id} is {row.state}; only an ended job can be requeued")
    old = JobSpec.model_validate(row.spec)
    spec = _spec(known, row, wanted) if wanted.overrides else old
    check_secrets([spec], known.store.secret_names)
    changed = changes(old, spec)
    found = source_of(known, row)
    source = found if isinstance(found, Source) and not wanted.from_start else None
    if source is not None:
        _refuse(row, spec, changed, source)
        text = _goes_on(source, changed)
    else:
        text = f"begins at step 0{'' if wanted.from_start else f': {found}'}"
    stored = spec.model_dump(mode="json", exclude_unset=True, exclude={"after", "matrix"})
    again = NewJob(
        spec.name,
        row.user,
        stored if changed else row.spec,
        spec.priority,
        spec.project,
        continues=source.job_id if source else None,
    )
    steps = with_steps([(spec, again)])[1:]
    made = known.store.requeue(row.id, known.controller.clock(), actor(request), again, key, steps)
    known.controller.wake()
    shown = views.job(known.store.job_view(made.id))
    told: schemas.GoesOn = {
        "job": source.job_id if source else None,
        "step": source.step if source else 0,
        "text": text,
        "changes": [str(change) for change in changed],
    }
    return {**shown, "goes_on": told}


def _made_before(known: Services, made: JobRow) -> schemas.Requeued:
    """The answer to who asks again with the same key."""
    text = (
        "begins at step 0" if made.continues is None else f"goes on from a checkpoint of job {made.continues}"
    )
    step = 0 if made.continues is None else None
    told: schemas.GoesOn = {"job": made.continues, "step": step, "text": text, "changes": []}
    return {**views.job(known.store.job_view(made.id)), "goes_on": told}


def _spec(known: Services, row: JobRow, wanted: Wanted) -> JobSpec:
    """The new job file. Raises SpecError."""
    source = f"job {row.id}"
    if faults := fixed(wanted.overrides):
        raise SpecError(faults, source)
    overrides = resolved(wanted.overrides, wanted.base_dir)
    return read_job(
        JobInput(spec=row.spec, overrides=overrides, source=source), known.settings, known.facts()
    )


def source_of(known: Services, row: JobRow) -> Source | str:
    """What there is to go on from, or why there is nothing."""
    if row.state is JobState.SUCCEEDED:
        return f"job {row.id} succeeded, so nothing of it is left to do"
    attempts = known.store.attempts(row.id)
    if (last := newest(attempts)) is not None:
        found = Source(row.id, checkpoint_step(last))
    elif any(attempt.outcome is Outcome.LOST and attempt.steps for attempt in attempts):
        found = Source(row.id, None)
    elif row.continues is not None:
        return source_of(known, known.store.job(row.continues))
    else:
        return f"job {row.id} has no checkpoint"
    if unneeded(known, [row.id]):
        return f"the checkpoints of job {row.id} have been removed (serve --keep-checkpoints)"
    return found


def _refuse(row: JobRow, spec: JobSpec, changed: Sequence[Change], source: Source) -> None:
    """Raises SpecError where this would throw work away, or has nothing left to train."""
    faults = [_fault(change, source) for change in changed if change.effect is Effect.WEIGHTS]
    steps = spec.training.steps
    if steps is not None and source.step is not None and steps < source.step:
        problem = f"is less than the {counted(source.step, 'step')} already done"
        fix = f"use at least {source.step}, or --from-start to train from the beginning"
        faults.append(Fault("training.steps", str(steps), problem, fix))
    if faults:
        raise SpecError(faults, f"job {row.id}")


def _fault(change: Change, source: Source) -> Fault:
    problem = (
        f"can't change ({change.difference.sides}) where a job goes on from {source.text}: {change.why_not}"
    )
    return Fault(change.path, "", problem, "--from-start trains from step 0 with it")


def _goes_on(source: Source, changed: Sequence[Change]) -> str:
    later = [str(change) for change in changed if change.effect is Effect.SCHEDULE]
    return f"goes on from {source.text}" + (f", from there on with {', '.join(later)}" if later else "")
