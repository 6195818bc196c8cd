"""Route of /metrics, for Prometheus: past the API's prefix, at the address that scrapers expect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fastapi import Request, Response
from prometheus_client.core import Metric

from orchestrator.api.context import Services
from orchestrator.api.edge.gate import SCRAPE as PATH
from orchestrator.api.prometheus.families import counter, fleet, gauge
from orchestrator.api.prometheus.scrape import CONTENT_TYPE
from orchestrator.api.routes.jobs import services

__all__ = ["PATH", "scrape"]


def scrape(request: Request) -> Response:
    """The fleet and this server as metrics. Of several servers only the one that leads exports the fleet."""
    known = services(request)
    now = known.controller.clock()
    leads = known.leadership is None or known.leadership.leads

    def read() -> Iterable[Metric | str]:
        return [*fleet(known.window.look(), known.store.exported(), now)]

    text = known.scrape.text(_server(known, request.app.version, leads), read if leads else None, now)
    return Response(text, media_type=CONTENT_TYPE)


def _server(known: Services, version: str, leads: bool) -> Iterator[Metric]:
    rounds = known.controller.rounds
    yield gauge("build_info", "The server; 1.", [((version,), 1.0)], "version")
    yield gauge("leader", "1 on the server that leads: it alone exports the fleet.", [((), float(leads))])
    yield gauge("tick_age_seconds", "Since the scheduler's last good round.", [((), rounds.age_s)])
    yield gauge("tick_duration_seconds", "How long its last round took.", [((), rounds.took_s)])
    yield counter("ticks", "Good rounds since the server began.", [((), rounds.count)])
    yield counter("reports", "Reports of hosts that this server stored.", [((), known.reports.taken)])
    entries = known.controller.quarantine.entries()
    yield gauge("set_aside_records", "Records that this server can't handle.", [((), len(entries))])
