"""Routes of secrets of projects: they are set and removed, and their names listed; what they say is told to nobody."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import Conflict, NotFound, UsageError
from jobs.jobfile.fields import NAME
from jobs.jobfile.secret_names import fault_of_name, fault_of_value
from orchestrator import schemas
from orchestrator.api.actors import actor
from orchestrator.api.edge.refusals import raises
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.routes.jobs import services
from orchestrator.store import Store
from orchestrator.store.sealed_rows import SecretRow

router = APIRouter(route_class=Surviving)


class SecretValue(BaseModel):
    """Body of PUT /projects/NAME/secrets/SECRET."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    value: str = Field(description="8 to 65,536 characters.", json_schema_extra={"writeOnly": True})


@router.get("/projects/{name}/secrets")
def list_secrets(request: Request, name: str) -> schemas.SecretPage:
    """Names of a project's secrets, and who set them when."""
    return _page(services(request).store, name)


@router.put("/projects/{name}/secrets/{secret}", responses=raises(Conflict))
def set_secret(request: Request, name: str, secret: str, given: SecretValue) -> schemas.SecretPage:
    """Set a secret. It is stored encrypted, and nobody is told it but the trainers of jobs that name it."""
    if not re.fullmatch(NAME, name):
        raise UsageError(f"project: {name!r} is no name of a project")
    if fault := fault_of_name(secret):
        raise UsageError(f"secret: {secret!r} {fault}")
    if fault := fault_of_value(given.value):
        raise UsageError(f"value: {fault}")
    known = services(request)
    keys = frozenset(row.key_id for row in known.store.secrets())
    sealed = known.settings.vault.seal(name, secret, given.value, keys)
    asks = actor(request)
    row = SecretRow(name, secret, sealed.key_id, sealed.box, known.controller.clock(), asks.user)
    known.store.set_secret(row, asks)
    return _page(known.store, name)


@router.delete("/projects/{name}/secrets/{secret}", responses=raises(NotFound))
def remove_secret(request: Request, name: str, secret: str) -> schemas.SecretPage:
    """Remove a secret. Jobs that name it and have not begun can't begin until it is set again."""
    known = services(request)
    known.store.remove_secret(name, secret, known.controller.clock(), actor(request))
    return _page(known.store, name)


def _page(store: Store, project: str) -> schemas.SecretPage:
    found = store.secrets(project)
    return {"secrets": [{"name": row.name, "set_at": row.set_at, "set_by": row.set_by} for row in found]}
