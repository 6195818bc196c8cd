"""Routes of projects: their terms, and what they hold."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import NotFound, UsageError
from jobs.jobfile.fields import NAME
from jobs.units import counted
from orchestrator import schemas
from orchestrator.api.actors import actor
from orchestrator.api.edge.refusals import raises
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.routes.jobs import services
from orchestrator.store import Store
from orchestrator.store.rows import ProjectRow

router = APIRouter(route_class=Surviving)
MAX_WEIGHT = 1e6
MAX_GUARANTEE = 1_000_000


class Terms(BaseModel):
    """Body of PUT /projects/NAME: what is left out stays as it is. A guarantee of null: only its share."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    guarantee: Annotated[int, Field(ge=0, le=MAX_GUARANTEE, strict=True)] | None = None
    weight: Annotated[float, Field(gt=0, le=MAX_WEIGHT)] = 1.0
    borrows: Annotated[bool, Field(strict=True)] = True


@router.get("/projects")
def list_projects(request: Request) -> schemas.ProjectPage:
    """Projects with terms of their own, or with jobs that are queued or running."""
    return page(services(request).store)


@router.put("/projects/{name}")
def set_project(request: Request, name: str, terms: Terms) -> schemas.ProjectPage:
    """Change the terms of a project, or make it. The answer is that of GET /projects."""
    if not re.fullmatch(NAME, name):
        raise UsageError(
            f"project: {name!r} is no name: use up to 100 letters, digits, dots, underscores and dashes, "
            "beginning with a letter or digit"
        )
    known = services(request)
    given: dict[str, Any] = terms.model_dump(include=terms.model_fields_set)
    known.store.set_project(name, given, known.controller.clock(), actor(request))
    known.controller.wake()
    return page(known.store)


@router.delete("/projects/{name}", responses=raises(NotFound))
def remove_project(request: Request, name: str) -> schemas.ProjectPage:
    """Take a project's terms away; its jobs go on as those of any other name."""
    known = services(request)
    known.store.remove_project(name, known.controller.clock(), actor(request))
    known.controller.wake()
    return page(known.store)


def page(store: Store) -> schemas.ProjectPage:
    """All projects, and what their terms promise that the fleet can't keep."""
    terms = {row.name: row for row in store.projects()}
    loads = store.project_loads()
    cards = sum(gpu.present for gpu in store.gpus())
    guaranteed = sum(row.guarantee or 0 for row in terms.values())
    warnings = []
    if guaranteed > cards:
        warnings.append(
            f"guarantees add up to {counted(guaranteed, 'GPU')}, and the fleet has {cards}: not all can be kept at once"
        )
    warnings += [
        f"{name} may not borrow but has no guarantee, so nothing keeps it from taking what is idle: give it one"
        for name, row in sorted(terms.items())
        if row.guarantee is None and not row.borrows
    ]
    made = []
    for name in sorted({*terms, *loads}):
        row = terms.get(name, ProjectRow(name))
        queued, gpus = loads.get(name, (0, 0))
        made.append(_shape(row, name in terms, queued, gpus))
    return {"projects": made, "gpus": cards, "warnings": warnings}


def _shape(row: ProjectRow, own_terms: bool, queued: int, gpus: int) -> schemas.ProjectShape:
    return {
        "name": row.name,
        "guarantee": row.guarantee,
        "weight": row.weight,
        "borrows": row.borrows,
        "own_terms": own_terms,
        "queued": queued,
        "gpus": gpus,
    }
