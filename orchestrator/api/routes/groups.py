"""Routes of groups: the jobs of a sweep side by side; cancel, hold and release for all of them."""

from __future__ import annotations

import math
from collections.abc import Collection

from fastapi import APIRouter, Request

from jobs.errors import NotFound
from jobs.jobfile.sweep import MAX_MEMBERS, Score, best_first, differences
from jobs.state import JobState
from orchestrator import schemas
from orchestrator.api.actors import actor
from orchestrator.api.context import Services
from orchestrator.api.edge.refusals import raises
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.responses import views
from orchestrator.api.responses.presence import shower
from orchestrator.api.routes.jobs import services, stop
from orchestrator.store import unreadable
from orchestrator.store.jobs.listing import Wanted

router = APIRouter(route_class=Surviving)


@router.get("/groups/{group}", responses=raises(NotFound))
def show_group(request: Request, group: str) -> schemas.GroupTable:
    """The jobs of a group, by id or name, with what differs between them: the best first."""
    known = services(request)
    group_id = known.store.find_group(group)
    views_of_all = known.store.listing(Wanted(group=group_id, sort="id"), MAX_MEMBERS).views
    show = shower(known)
    found = unreadable.each(
        "job", views_of_all, lambda view: view.job.id, lambda view: (view.job, show(view))
    )
    keys, values = differences([row.spec for row, _ in found])
    order = best_first([_score(shown) for _, shown in found])
    return {
        "id": group_id,
        "name": views.group_name([row.name for row, _ in found]),
        "keys": keys,
        "members": [{"job": found[at][1], "values": values[at]} for at in order],
    }


def _score(job: schemas.Job) -> Score:
    """What is there without a loss had one that is no number."""
    progress = job["progress"]
    loss = None if progress is None else math.nan if progress["loss"] is None else progress["loss"]
    found = job["evaluation"]
    evaluation = None if found is None else math.nan if found["loss"] is None else found["loss"]
    return Score(loss, evaluation, job["state"] == JobState.FAILED)


@router.post("/groups/{group}/cancel", responses=raises(NotFound))
def cancel_group(request: Request, group: str) -> dict[str, list[schemas.Job]]:
    """Ask every job of a group to end that has not ended yet; those jobs. An empty list: all have."""
    known = services(request)
    group_id = known.store.find_group(group)
    asked = set(known.store.cancel_group(group_id, known.controller.clock(), actor(request)))
    stop(known, asked)
    return _members(known, group_id, asked)


@router.post("/groups/{group}/hold", responses=raises(NotFound))
def hold_group(request: Request, group: str) -> dict[str, list[schemas.Job]]:
    """Keep every queued job of a group from starting until it is released; those that were not held before."""
    known = services(request)
    group_id = known.store.find_group(group)
    held = known.store.hold_group(group_id, known.controller.clock(), actor(request))
    known.controller.wake()
    return _members(known, group_id, held)


@router.post("/groups/{group}/release", responses=raises(NotFound))
def release_group(request: Request, group: str) -> dict[str, list[schemas.Job]]:
    """Let every held job of a group start; those."""
    known = services(request)
    group_id = known.store.find_group(group)
    released = known.store.release_group(group_id, known.controller.clock(), actor(request))
    known.controller.wake()
    return _members(known, group_id, released)


def _members(known: Services, group_id: int, ids: Collection[int]) -> dict[str, list[schemas.Job]]:
    """Those of the jobs of a group, oldest first."""
    found, show = known.store.job_views(limit=MAX_MEMBERS, group=group_id), shower(known)
    return {"jobs": [show(view) for view in reversed(found) if view.job.id in ids]}
