"""The route of what this server left alone, for it can't handle it."""

from __future__ import annotations

from fastapi import APIRouter, Request

from orchestrator import schemas
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.routes.jobs import services

router = APIRouter(route_class=Surviving)


@router.get("/quarantine")
def quarantine(request: Request) -> schemas.Quarantined:
    """Jobs, attempts, hosts and steps that raise, oldest first, each with its traceback. The rest goes on."""
    entries = services(request).controller.quarantine.entries()
    return {
        "entries": [
            {
                "kind": entry.kind,
                "key": entry.key,
                "doing": entry.doing,
                "since": entry.since,
                "text": entry.text,
                "traceback": entry.traceback,
                "retry_at": entry.retry_at,
            }
            for entry in entries
        ]
    }
