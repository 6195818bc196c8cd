"""The route of reports: from every host every second, so it goes past FastAPI's layers, many under one commit."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from jobs.errors import Busy, NotFound, Unavailable
from jobs.messages.reports import HostOrders, HostReport
from orchestrator.api.context import Services
from orchestrator.api.edge.query import check_query
from orchestrator.api.edge.refusals import of_body, raises
from orchestrator.api.edge.report_batches import Answer, Report
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.orders import orders
from orchestrator.api.routes.jobs import services
from orchestrator.store.hosts.reports import JOIN_FIRST

log = logging.getLogger(__name__)
router = APIRouter(route_class=Surviving)


@router.post("/hosts/{host_id}/report", response_model=HostOrders, responses=raises(NotFound, Busy))
async def report(request: Request, host_id: int) -> Response:
    """News of a host; the answer is what it is to do. Sending the same news twice changes nothing."""
    # Reads the body and writes the answer itself, as submit() does.
    known = services(request)
    check_query(request, ())
    body = await request.body()
    answer = await known.reports.put(host_id, body, partial(take, known))
    return Response(answer, 200, media_type="application/json")


def take(known: Services, group: Sequence[Report]) -> list[Answer]:
    """Store a group of reports, one of a host, and answer each; on a thread."""
    answers: dict[int, Answer] = {}
    reports: dict[int, HostReport] = {}
    for host_id, body in group:
        try:
            reports[host_id] = HostReport.model_validate_json(body)
        except ValidationError as error:
            answers[host_id] = of_body(error, body)
    answers |= _stored(known, reports)
    return [answers[host_id] for host_id, _ in group]


def _stored(known: Services, reports: Mapping[int, HostReport]) -> Mapping[int, Answer]:
    """Where one of them can't be stored or answered, the others are, by halves."""
    if not reports:
        return {}
    try:
        return _together(known, reports)
    except Unavailable as error:
        return dict.fromkeys(reports, error)
    except Exception as error:  # of one report; the request that brought it logs it
        if len(reports) == 1:
            return dict.fromkeys(reports, error)
    pairs, half = list(reports.items()), len(reports) // 2
    return {**_stored(known, dict(pairs[:half])), **_stored(known, dict(pairs[half:]))}


def _together(known: Services, reports: Mapping[int, HostReport]) -> dict[int, Answer]:
    unknown = known.store.record_reports(list(reports.items()), known.controller.clock())
    stored = {host_id: news for host_id, news in reports.items() if host_id not in unknown}
    if [host_id for host_id, news in stored.items() if _is_news(known, host_id, news)]:
        known.controller.wake()
    if any(news.traces for news in stored.values()):
        known.lengths.forget()
    answers: dict[int, Answer] = {host_id: NotFound(JOIN_FIRST.format(host_id)) for host_id in unknown}
    return answers | {
        host_id: told.model_dump_json().encode() for host_id, told in orders(known, stored).items()
    }


def _is_news(known: Services, host_id: int, news: HostReport) -> bool:
    """Whether the controller has something to do for it at once."""
    came_up = news.ray_ready and host_id not in known.ready
    (known.ready.add if news.ray_ready else known.ready.discard)(host_id)
    return bool(
        came_up
        or not news.boot
        or news.traces
        or any(attempt.ended or attempt.started for attempt in news.attempts)
    )
