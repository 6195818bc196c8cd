"""The FastAPI application: all routes behind the gate."""

from __future__ import annotations

import functools
import os
import re
from functools import partial
from importlib.metadata import version

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from jobs import errors
from orchestrator import schemas
from orchestrator.api import openapi
from orchestrator.api.browsers.origins import Origins
from orchestrator.api.browsers.requests import Browsers
from orchestrator.api.context import Services
from orchestrator.api.edge import refusals
from orchestrator.api.edge.gate import SESSION, SUBMIT, Gate, Route, Scope
from orchestrator.api.edge.query import only_known
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.readiness import readiness
from orchestrator.api.responses.fleet_state import FleetReader
from orchestrator.api.responses.presence import is_online
from orchestrator.api.routes import (
    accuracy,
    actions,
    changes,
    groups,
    history,
    hosts,
    jobs,
    metrics,
    projects,
    quarantine,
    reports,
    requeue,
    results,
    secrets,
    whatif,
)
from orchestrator.api.routes.watching import cards, curves, fleet, notify, prometheus, series, session, usage
from orchestrator.api.routes.watching.session import cookie_name
from orchestrator.client.responses import PREFIX
from orchestrator.store.unreadable import leaving_out
from orchestrator.web.site import site

_PAGE_ROUTES: dict[tuple[str, str], Route] = {
    ("GET", f"{PREFIX}/stream"): fleet.stream,
    ("GET", SESSION): session.who,
    ("POST", SESSION): session.sign_in,
    ("DELETE", SESSION): session.sign_out,
    ("POST", f"{SESSION}/ticket"): session.ticket,
}
_REPORT = re.compile(rf"{PREFIX}/hosts/([0-9]{{1,18}})/report")


def create_app(services: Services) -> Gate:
    """The application over these services, behind its gate."""
    app = routes()
    app.state.services = services
    services.window.read = FleetReader(services).read
    settings = services.settings
    browsers = Browsers(
        site(), services.sessions, Origins((settings.host, *settings.hostnames)), cookie_name(settings.port)
    )
    return Gate(app, settings.token, past_layers, browsers, settings.scrape_token)


def past_layers(scope: Scope) -> Route | None:
    """The route of a submission or a host's report, for FastAPI's layers would cost as much as the durable insert; and
    those that are for the page alone.
    """
    if (found_for_page := _PAGE_ROUTES.get((scope["method"], scope["path"]))) is not None:
        return found_for_page
    if scope["method"] != "POST":
        return None
    if scope["path"] == SUBMIT:
        return jobs.submit
    if (found := _REPORT.fullmatch(scope["path"])) is not None:
        return partial(reports.report, host_id=int(found[1]))
    return None


def routes() -> FastAPI:
    """All routes and their document; they work once app.state.services is set."""
    app = FastAPI(
        title="tuneyard",
        version=version("tuneyard"),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(only_known)],
        generate_unique_id_function=openapi.operation_id,
    )
    app.add_exception_handler(errors.TuneyardError, refusals.known_error)
    app.add_exception_handler(RequestValidationError, refusals.invalid)
    app.add_exception_handler(HTTPException, refusals.http_error)
    app.add_exception_handler(Exception, refusals.unknown_error)
    app.router.route_class = Surviving
    app.add_api_route(f"{PREFIX}/health", health, methods=["GET"], tags=[openapi.tag(__name__)])
    for room in (
        projects,
        secrets,
        notify,
        jobs,
        metrics,
        curves,
        results,
        groups,
        changes,
        requeue,
        whatif,
        hosts,
        cards,
        fleet,
        reports,
        accuracy,
        history,
        actions,
        quarantine,
        series,
        usage,
    ):
        app.include_router(room.router, prefix=PREFIX, tags=[openapi.tag(room.__name__)])
    made = functools.cache(lambda: openapi.document(app))
    app.openapi = made  # type: ignore[method-assign]
    app.add_api_route(f"{PREFIX}/openapi.json", document, methods=["GET"], include_in_schema=False)
    app.add_api_route(prometheus.PATH, prometheus.scrape, methods=["GET"], include_in_schema=False)
    return app


def document(request: Request) -> JSONResponse:
    """The OpenAPI document. It takes a moment to make: not on the event loop."""
    return JSONResponse(request.app.openapi())


async def health(request: Request) -> schemas.Health:
    """Whether the server can take jobs and start them; needs no token. It answers at once, whatever its parts do."""
    services = jobs.services(request)
    beat = await services.pulse.look(lambda: _hosts(services))
    found, answered_s = readiness(services, beat), services.dispatch.state().answered_s
    return {
        "status": found.status,
        "ready": found.ready,
        "database": found.database,
        "scheduler": found.scheduler,
        "scheduler_age_s": round(services.controller.rounds.age_s, 1),
        "dispatcher": found.dispatcher,
        "dispatcher_age_s": None if answered_s is None else round(answered_s, 1),
        "version": request.app.version,
        "pid": os.getpid(),
        "ray": found.ray,
        "exposed": services.settings.exposed,
        "hosts": beat.hosts,
        "hosts_online": beat.online,
        "leader": services.leader(),
        "set_aside": len(services.controller.quarantine.entries()),
    }


def _hosts(services: Services) -> tuple[int, int]:
    """Raises Unavailable where the database takes no writes."""
    services.store.check_writable()
    with leaving_out():
        known = services.store.hosts()
        return len(known), sum(is_online(services, host) for host in known)
