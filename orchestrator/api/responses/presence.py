"""Which hosts are there now, as the planner judges it, and how jobs are shown whose hosts are not."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator import schemas
from orchestrator.api.context import Services
from orchestrator.api.responses import views
from orchestrator.store import unreadable
from orchestrator.store.rows import HostRow, JobView


def is_online(known: Services, row: HostRow) -> bool:
    """Whether a host answers now."""
    return known.controller.online(row)


def silences(known: Services) -> dict[int, schemas.SilenceShape]:
    """Of each host, by id, that is not there: since when, and when what runs there is given up."""
    now, hearing = known.controller.clock(), known.controller.hearing
    lost_after_s = known.settings.lost_after_s

    def silence(row: HostRow) -> tuple[int, schemas.SilenceShape | None]:
        if is_online(known, row):
            return row.id, None
        given_up_at = now - hearing.host_silent_s(row, now) + lost_after_s
        said: schemas.SilenceShape = {
            "host": row.name,
            "stopped": row.left,
            "since": row.last_seen,
            "given_up_at": given_up_at,
        }
        return row.id, said

    found = unreadable.each("host", known.store.hosts(), lambda row: row.name, silence)
    return {host_id: said for host_id, said in found if said is not None}


def shower(known: Services) -> Callable[[JobView], schemas.Job]:
    """What shows jobs as they are now: with likely starts, standstills and hosts that are not there."""
    starts, now, silent = known.controller.likely.starts, known.controller.clock(), silences(known)
    return lambda view: views.job(view, starts, now, silent)
