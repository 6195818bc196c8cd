"""Routes of one card: what it does, and which jobs ran on it. What happened to it is among the events."""

from __future__ import annotations

from fastapi import APIRouter, Query, Request

from jobs.errors import NotFound
from orchestrator import schemas
from orchestrator.api.edge.refusals import raises
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.responses import views
from orchestrator.api.responses.presence import is_online
from orchestrator.api.routes.jobs import services
from orchestrator.store import unreadable
from orchestrator.store.hosts.readings import CardAttempt
from orchestrator.store.rows import JobRow

router = APIRouter(route_class=Surviving)
MAX_PAGE = 500


@router.get("/gpus/{card:path}/jobs", responses=raises(NotFound))
def card_jobs(
    request: Request,
    card: str,
    limit: int = Query(50, ge=1, le=MAX_PAGE),
    before: int | None = Query(None, ge=0, lt=2**63, description="the id of an attempt"),
) -> schemas.GpuJobPage:
    """Attempts that held a card, the newest first. card: an id, a uuid or HOST/INDEX.

    before: for the next page. What happened to the card itself is `GET /events?card=CARD`.
    """
    store = services(request).store
    found = store.card_attempts(store.find_card(card).id, limit + 1, before)
    shown = unreadable.each("attempt", found[:limit], lambda row: row[0].id, lambda row: _shape(*row))
    return {"jobs": shown, "more": len(found) > limit}


@router.get("/gpus/{card:path}", responses=raises(NotFound))
def show_card(request: Request, card: str) -> schemas.GpuFull:
    """One card, with its latest reading and who holds it. card: an id, a uuid or HOST/INDEX."""
    known = services(request)
    row = known.store.find_card(card)
    host = known.store.host(row.host_id)
    state = views.host_state(host, bool(row.holders), is_online(known, host))
    shown = views.gpu(row, known.store.latest_sample(row.id), state, host.last_seen)
    return {**shown, "present": row.present}  # type: ignore[typeddict-item]


def _shape(row: CardAttempt, job: JobRow) -> schemas.GpuJob:
    figures = row.measured or {}
    return {
        "job": row.job_id,
        "name": job.name,
        "user": job.user,
        "project": job.project,
        "state": str(job.state),
        "attempt": row.id,
        "number": row.number,
        "rank": row.rank,
        "exclusive": row.exclusive,
        "opened_at": row.opened_at,
        "started_at": row.started_at,
        "released_at": row.released_at,
        "outcome": row.outcome,
        "message": row.message or None,
        "steps": row.steps,
        "promised_bytes": row.memory_bytes,
        "projected_bytes": row.projection.get("device_bytes"),
        "measured_bytes": figures.get("device_bytes"),
    }
