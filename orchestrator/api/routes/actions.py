"""The route of the audit listing: what people asked for."""

from __future__ import annotations

from fastapi import APIRouter, Query, Request

from orchestrator import schemas
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.responses import views
from orchestrator.api.routes.jobs import services
from orchestrator.store import unreadable

router = APIRouter(route_class=Surviving)
MAX_PAGE = 1000


@router.get("/audit")
def audit(
    request: Request, limit: int = Query(50, ge=1, le=MAX_PAGE), before: int | None = Query(None, ge=0)
) -> schemas.ActionPage:
    """Cancels, holds, changes, requeues, drains and terms of projects, newest first, with who asked and from where.

    before: the id of an action, for the next page. `by` is what the client states: one token is everybody's.
    """
    found = services(request).store.actions(limit + 1, before)
    shown = unreadable.each("event", found[:limit], lambda row: row.event.id, views.action)
    return {"actions": shown, "more": len(found) > limit}
