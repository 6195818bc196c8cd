"""The route of history: ended jobs, for `tuneyard simulate --from-history`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Query, Request

from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.routes.jobs import services
from orchestrator.store.jobs.history import NEWEST

router = APIRouter(route_class=Surviving)


@router.get("/history")
def history(request: Request, limit: int = Query(NEWEST, ge=1, le=NEWEST)) -> dict[str, list[dict[str, Any]]]:
    """The newest `limit` ended jobs that ran, in the order of submission."""
    return {"jobs": [asdict(past) for past in services(request).store.history(limit)]}
