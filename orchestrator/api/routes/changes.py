"""Routes that change a job that waits: set, hold, release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import Conflict, Fault, NotFound, SpecError
from jobs.jobfile.changes import ONCE_TRAINED, WHILE_RUNNING, differences, fixed, outside
from jobs.jobfile.overrides import apply_overrides
from jobs.jobfile.resume_compatibility import Effect, effect_of
from jobs.jobfile.spec import JobSpec
from jobs.state import JobState
from orchestrator import schemas
from orchestrator.api.actors import actor
from orchestrator.api.edge.refusals import raises
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.responses import views
from orchestrator.api.routes.jobs import services
from orchestrator.api.submission.validation import JobInput, absolute, check_secrets, read_job
from orchestrator.store.jobs.changes import Change
from orchestrator.store.rows import JobRow

router = APIRouter(route_class=Surviving)


class Changes(BaseModel):
    """Body of PATCH /jobs/JOB: values by dotted key, laid over the job file. base_dir: of relative paths in them."""

    model_config = ConfigDict(extra="forbid")

    overrides: dict[str, Any] = Field(min_length=1)
    base_dir: str | None = None


@router.patch("/jobs/{job}", responses=raises(NotFound, Conflict))
def change(request: Request, job: str, changes: Changes) -> schemas.Changed:
    """Change the job file of a job that waits; of a running one, priority and retries."""
    known = services(request)
    row = known.store.find_job(job)
    source = f"job {row.id}"
    _refuse(row, changes.overrides)
    if faults := fixed(changes.overrides):
        raise SpecError(faults, source)
    wanted = JobInput(spec=row.spec, overrides=resolved(changes.overrides, changes.base_dir), source=source)
    spec = read_job(wanted, known.settings, known.facts())
    check_secrets([spec], known.store.secret_names)
    old, new = (one.model_dump(mode="json") for one in (JobSpec.model_validate(row.spec), spec))
    differ = differences(old, new)
    if differ:
        made = Change(
            spec.name,
            spec.model_dump(mode="json", exclude_unset=True, exclude={"after", "matrix"}),
            spec.priority,
            spec.project,
            tuple(differ),
        )
        known.store.change_job(row, made, known.controller.clock(), actor(request))
        known.controller.wake()
    said = [f"{one.path}: {one.sides}" for one in differ if one.path not in changes.overrides]
    return {**views.job(known.store.job_view(row.id)), "replaced": said}


def _refuse(row: JobRow, paths: dict[str, Any]) -> None:
    """Raises where the job has come too far: Conflict for any change, SpecError for these keys."""
    flag = " --from-start" if any(effect_of(path) is Effect.WEIGHTS for path in paths) else ""
    again = f"`tuneyard requeue {row.id} --set {next(iter(paths))}=..{flag}`"
    if row.ended:
        raise Conflict(f"job {row.id} has ended ({row.state}); {again} submits it again with the change")
    if row.cancel_requested_at is not None:
        raise Conflict(
            f"job {row.id} was asked to stop; once it has, {again} submits it again with the change"
        )
    fix = f"`tuneyard cancel {row.id}`, then {again}"
    if row.state is JobState.RUNNING and (late := outside(paths, WHILE_RUNNING)):
        problem = f"can't change while the job runs, only {_listed(WHILE_RUNNING)} can"
        raise SpecError([Fault(path, "", problem, fix) for path in late], f"job {row.id}")
    if (row.started_at is not None or row.continues is not None) and (late := outside(paths, ONCE_TRAINED)):
        problem = f"can't change once the job has trained, only {_listed(ONCE_TRAINED)} can"
        raise SpecError([Fault(path, "", problem, fix) for path in late], f"job {row.id}")


def _listed(keys: frozenset[str]) -> str:
    *most, last = sorted(keys)
    return f"{', '.join(most)} and {last}"


def resolved(overrides: dict[str, Any], base_dir: str | None) -> dict[str, Any]:
    """The overrides with relative paths read from base_dir. What is stored is absolute already, or a hub id."""
    if base_dir is None:
        return overrides
    base = Path(base_dir)
    made: dict[str, Any] = {}
    for path, given in overrides.items():
        found: Any = absolute(apply_overrides({}, {path: given}), base)
        for key in path.split("."):
            found = found[key]
        made[path] = found
    return made


@router.post("/jobs/{job}/hold", responses=raises(NotFound, Conflict))
def hold(request: Request, job: str) -> schemas.Job:
    """Keep a queued job from starting until it is released."""
    known = services(request)
    row = known.store.hold(known.store.find_job(job).id, known.controller.clock(), actor(request))
    known.controller.wake()
    return views.job(known.store.job_view(row.id))


@router.post("/jobs/{job}/release", responses=raises(NotFound, Conflict))
def release(request: Request, job: str) -> schemas.Job:
    """Let a held job start."""
    known = services(request)
    row = known.store.release(known.store.find_job(job).id, known.controller.clock(), actor(request))
    known.controller.wake()
    return views.job(known.store.job_view(row.id))
