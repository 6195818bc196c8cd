"""Routes of notifications: who is told of what happens to jobs and hosts."""

from __future__ import annotations

import json
import re
import secrets
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import Conflict, NotFound, UsageError
from jobs.identity import new_uuid
from jobs.jobfile.fields import NAME
from orchestrator import schemas
from orchestrator.api.actors import actor
from orchestrator.api.context import Services
from orchestrator.api.edge.refusals import raises
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.routes.jobs import services
from orchestrator.notify.addresses import read_url
from orchestrator.notify.mail import read_address
from orchestrator.notify.sender import EMAIL, MAILTO, NO_RELAY
from orchestrator.store import Store
from orchestrator.store.requests import NOTIFIED
from orchestrator.store.sealed_rows import TargetRow

router = APIRouter(route_class=Surviving)
TargetId = Annotated[int, Path(ge=0, lt=2**31, description="the id of a target")]


class NewTarget(BaseModel):
    """Body of POST /notify. project: null: all projects, and the hosts; on: kinds of events, all when left out."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    url: str
    kind: Literal["webhook", "slack", "email"] = "webhook"
    project: str | None = None
    on: list[str] = Field(default_factory=list)


@router.get("/notify")
def list_targets(request: Request) -> schemas.TargetPage:
    """Who is told of what, and how much each is still to be told."""
    return _page(services(request).store)


@router.post("/notify", responses=raises(Conflict))
def add_target(request: Request, given: NewTarget) -> schemas.TargetAdded:
    """Tell a web server, or with kind email who reads mail at a `mailto:` URL. The answer has the key that signs what a
    web server gets: nobody is told it again.
    """
    known = services(request)
    host = _host(known, given)
    if given.project is not None and not re.fullmatch(NAME, given.project):
        raise UsageError(f"project: {given.project!r} is no name of a project")
    if wrong := [kind for kind in given.on if kind not in NOTIFIED]:
        raise UsageError(f"on: {wrong[0]!r} is no kind of event that is told; use {', '.join(NOTIFIED)}")
    store, key, uid = known.store, secrets.token_urlsafe(32), new_uuid()
    keys = {row.key_id for row in store.secrets()} | {row.key_id for row in store.targets()}
    sealed = known.settings.vault.seal("", uid, json.dumps({"url": given.url, "key": key}), frozenset(keys))
    kinds = f",{','.join(given.on or NOTIFIED)},"
    row = TargetRow(0, uid, given.project, given.kind, kinds, host, sealed.key_id, sealed.box)
    made = store.add_target(row, known.controller.clock(), actor(request))
    return {"id": made, "key": key}


def _host(known: Services, given: NewTarget) -> str:
    """Where notices go, for people. Raises UsageError."""
    if given.kind != EMAIL:
        return read_url(given.url).hostname or ""
    if not given.url.startswith(MAILTO):
        raise UsageError("url: of an e-mail target begins with mailto:, such as mailto:ada@example.org")
    if not known.settings.smtp_url:
        raise UsageError(f"kind: {NO_RELAY}")
    return read_address(given.url.removeprefix(MAILTO), "url")


@router.delete("/notify/{target}", responses=raises(NotFound))
def remove_target(request: Request, target: TargetId) -> schemas.TargetPage:
    """Tell it nothing more; what it was still to be told is dropped."""
    known = services(request)
    known.store.remove_target(target, known.controller.clock(), actor(request))
    return _page(known.store)


@router.post("/notify/{target}/test", responses=raises(NotFound))
def test_target(request: Request, target: TargetId) -> schemas.TargetPage:
    """Put a notice of kind test into the outbox: it goes the way of all others."""
    known = services(request)
    known.store.add_notice(target, "test", "a test: this target is reached", known.controller.clock())
    return _page(known.store)


def _page(store: Store) -> schemas.TargetPage:
    waiting = store.waiting_notices()
    return {"targets": [_shape(row, waiting.get(row.id, 0)) for row in store.targets()]}


def _shape(row: TargetRow, waiting: int) -> schemas.TargetShape:
    return {
        "id": row.id,
        "kind": row.kind,
        "host": row.host,
        "project": row.project,
        "on": row.kinds.strip(",").split(","),
        "waiting": waiting,
    }
