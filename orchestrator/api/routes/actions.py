"""The routes of what happened: events of all jobs and hosts, and what people asked for."""

from __future__ import annotations

from fastapi import APIRouter, Query, Request

from jobs.errors import NotFound
from orchestrator import schemas
from orchestrator.api.edge.refusals import bad_parameter, raises
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.responses import views
from orchestrator.api.routes.jobs import services
from orchestrator.store import unreadable
from orchestrator.store.actions import WantedEvents

router = APIRouter(route_class=Surviving)
MAX_PAGE = 1000


@router.get("/audit")
def audit(
    request: Request,
    limit: int = Query(50, ge=1, le=MAX_PAGE),
    before: int | None = Query(None, ge=0, lt=2**63),
) -> schemas.ActionPage:
    """Cancels, holds, changes, requeues, drains and terms of projects, newest first, with who asked and from where.

    before: the id of an action, for the next page. `by` is what the client states: one token is everybody's.
    """
    found = services(request).store.actions(limit + 1, before)
    shown = unreadable.each("event", found[:limit], lambda row: row.event.id, views.action)
    return {"actions": shown, "more": len(found) > limit}


@router.get("/events", responses=raises(NotFound))
def events(
    request: Request,
    limit: int = Query(100, ge=1, le=MAX_PAGE),
    since: float | None = Query(None, allow_inf_nan=False, description="Unix seconds"),
    job: str | None = None,
    host: str | None = None,
    card: str | None = Query(None, description="an id, a uuid or HOST/INDEX"),
    by: str | None = None,
    kind: str = "",
    before: int | None = Query(None, ge=0, lt=2**63),
    after: int | None = Query(None, ge=0, lt=2**63),
) -> schemas.EventPage:
    """What happened to jobs, hosts and cards, newest first. job, host, card: by id or name; by: who asked;
    since: Unix seconds.

    kind: names with commas between; before, after: ids of events, for older ones and for what is new since, which
    comes oldest first.
    """
    if by is not None and not by.strip():
        raise bad_parameter("by", repr(by), "write a user's name, or leave it out for all", "is empty")
    store = services(request).store
    kinds = [one for one in kind.split(",") if one]
    for one in kinds:
        if one not in store.event_kinds():
            raise bad_parameter(
                "kind", one, f"write {', '.join(sorted(store.event_kinds()))}", "is no kind of event"
            )
    wanted = WantedEvents(
        since=since,
        job=None if job is None else store.find_job(job).id,
        host=None if host is None else store.find_host(host).id,
        card=None if card is None else store.find_card(card).id,
        by=by,
        kinds=kinds,
        before=before,
        after=after,
    )
    found = store.events_of(wanted, limit + 1)
    shown = unreadable.each("event", found[:limit], lambda row: row.event.id, views.event_line)
    return {"events": shown, "more": len(found) > limit}
