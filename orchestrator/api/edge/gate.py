"""The gate: before any route is looked for, the token and a bound on the body."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI, Request, Response

from jobs import errors
from orchestrator.api import jobs
from orchestrator.api.edge.refusals import known_error, unknown_error
from orchestrator.cli.answers import PREFIX

SUBMIT = f"{PREFIX}/jobs"
MAX_BODY_BYTES = 64 * 2**20

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


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
        answer = known_error(request, error)
    except Exception as error:  # the request's outermost edge
        answer = unknown_error(request, error)
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
