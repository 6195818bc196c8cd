"""The FastAPI application: the token on every route but health, one shape for every error."""

from __future__ import annotations

import functools
import hmac
import json
import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from jobs import errors
from orchestrator import schemas
from orchestrator.api import (
    accuracy,
    actions,
    changes,
    groups,
    history,
    hosts,
    jobs,
    metrics,
    openapi,
    projects,
    requeue,
    results,
    whatif,
)
from orchestrator.api.services import Services

log = logging.getLogger(__name__)

PREFIX = "/api/v1"
SUBMIT = f"{PREFIX}/jobs"
MAX_BODY_BYTES = 64 * 2**20

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

_KINDS: list[tuple[type[errors.TuneyardError], int, str]] = [
    (errors.SpecError, 422, "spec"),
    (errors.UsageError, 422, "usage"),
    (errors.InputError, 422, "usage"),
    (errors.NotFound, 404, "not_found"),
    (errors.Conflict, 409, "conflict"),
    (errors.Unauthorized, 401, "unauthorized"),
    (errors.Unavailable, 503, "unavailable"),
]


class Gate:
    """Before any route is looked for: the token, and a bound on the body.

    Plain ASGI, and the way to POST /jobs leads from here past FastAPI: its layers cost as much as the durable insert.
    """

    def __init__(self, app: FastAPI, token: str) -> None:
        self.app, self._expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        open_route = scope["path"] == f"{PREFIX}/health" and scope["method"] in ("GET", "HEAD")
        if not open_route and not hmac.compare_digest(headers.get(b"authorization", b""), self._expected):
            await _refuse(
                send,
                401,
                "unauthorized",
                "the token is missing or wrong; give it as `Authorization: Bearer TOKEN`",
            )
            return
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES or b"transfer-encoding" in headers:
            text = f"a body has a content-length of at most {MAX_BODY_BYTES} bytes"
            await _refuse(send, 413, "usage", text)
            return
        if scope["path"] == SUBMIT and scope["method"] == "POST":
            scope["app"] = self.app
            await _submit(Request(scope, receive), send)
            return
        await self.app(scope, receive, send)


async def _submit(request: Request, send: Send) -> None:
    """The route that FastAPI has too, without its layers."""
    try:
        answer: Response = await jobs.submit(request)
    except errors.TuneyardError as error:
        answer = _known_error(request, error)
    except Exception as error:  # the request's outermost edge
        answer = _unknown_error(request, error)
    await answer(request.scope, request.receive, send)


async def _refuse(send: Send, status: int, kind: str, text: str) -> None:
    body = json.dumps({"error": {"kind": kind, "message": text, "faults": []}}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def create_app(services: Services) -> Gate:
    """The application over these services, behind its gate."""
    app = routes()
    app.state.services = services
    return Gate(app, services.settings.token)


def routes() -> FastAPI:
    """All routes and their document; they work once app.state.services is set."""
    app = FastAPI(
        title="tuneyard",
        version=version("tuneyard"),
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=openapi.operation_id,
    )
    app.add_exception_handler(errors.TuneyardError, _known_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unknown_error)
    app.add_api_route(f"{PREFIX}/health", health, methods=["GET"], tags=[openapi.tag(__name__)])
    for room in (
        projects,
        jobs,
        metrics,
        results,
        groups,
        changes,
        requeue,
        whatif,
        hosts,
        accuracy,
        history,
        actions,
    ):
        app.include_router(room.router, prefix=PREFIX, tags=[openapi.tag(room.__name__)])
    made = functools.cache(lambda: openapi.document(app))
    app.openapi = made  # type: ignore[method-assign]
    return app


def health(request: Request) -> schemas.Health:
    """Whether the server is up; needs no token."""
    services = jobs.services(request)
    # The head's address is known before it answers; a dispatcher that has connected is what can start jobs.
    connected = services.dispatch.address and services.dispatch.generation
    ray = "ready" if connected else "starting" if services.settings.ray else "down"
    known = services.store.hosts()
    return {
        "status": "ok",
        "version": request.app.version,
        "pid": os.getpid(),
        "ray": ray,
        "exposed": services.settings.exposed,
        "hosts": len(known),
        "hosts_online": sum(hosts.is_online(services, host) for host in known),
    }


def _answer(status: int, kind: str, message: str, faults: list[dict[str, str]] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"kind": kind, "message": message, "faults": faults or []}}, status)


def _known_error(request: Request, error: Exception) -> JSONResponse:
    status, kind = next(
        ((status, kind) for cls, status, kind in _KINDS if isinstance(error, cls)), (500, "internal")
    )
    faults = [fault.as_dict() for fault in error.faults] if isinstance(error, errors.SpecError) else None
    return _answer(status, kind, str(error), faults)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [
        {
            "path": ".".join(map(str, item["loc"])),
            "given": str(item.get("input"))[:80],
            "problem": item["msg"],
            "fix": "",
        }
        for item in error.errors()
    ]
    text = "; ".join(f"{fault['path']}: {fault['problem']}" for fault in faults)
    return _answer(422, "usage", f"the request is not readable: {text}", faults)


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    kind = {404: "not_found", 401: "unauthorized"}.get(error.status_code, "usage")
    return _answer(error.status_code, kind, f"{request.method} {request.url.path}: {error.detail}")


def _unknown_error(request: Request, error: Exception) -> JSONResponse:
    log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(
        500, "internal", f"the server failed on {request.method} {request.url.path}; its log says why"
    )
