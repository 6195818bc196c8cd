"""The gate: before any route is looked for, the token or a session, and a bound on the body."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from jobs import errors
from jobs.errors import TooLarge, Unauthorized
from orchestrator.api.browsers.origins import SAFE
from orchestrator.api.browsers.requests import Browsers, signed_in
from orchestrator.api.edge.budget import (
    BODY_BYTES,
    PIECE_BYTES,
    PLAIN_BYTES,
    REPORT_BYTES,
    SUBMISSION_BYTES,
    check_size,
)
from orchestrator.api.edge.refusals import known_error, unknown_error
from orchestrator.client.responses import PREFIX

SUBMIT = f"{PREFIX}/jobs"
SCRAPE = "/metrics"
SESSION = f"{PREFIX}/session"
_API = "/api/"
STREAMED = "/result/files"  # whose answer a host would have to send
# Of a body that is refused, so much is taken in: a client that is still sending it does not read the answer.
DRAINED_BYTES = 128 * 2**20
DRAIN_S = 5.0

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
Route = Callable[[Request], Awaitable[Response]]


class Gate:
    """Before any route is looked for: the token or a session, and a bound on the body. What is outside of the API
    goes to browsers as it is.

    Plain ASGI. direct: the route of a request that goes past FastAPI, None for one that does not. scrape_token: opens
    /metrics alone, beside the token; empty: there is none.
    """

    def __init__(
        self,
        app: FastAPI,
        token: str,
        direct: Callable[[Scope], Route | None],
        browsers: Browsers,
        scrape_token: str = "",
    ) -> None:
        self.app, self._expected, self._direct = app, f"Bearer {token}".encode(), direct
        self._browsers = browsers
        self._scrapes = f"Bearer {scrape_token}".encode() if scrape_token else self._expected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if not scope["path"].startswith(_API) and scope["path"] != SCRAPE:
            answer = self._browsers.file(scope["method"], scope["path"], headers)
            await answer(scope, receive, _without_body(send) if scope["method"] == "HEAD" else send)
            return
        try:
            self._check(scope, headers)
        except (Unauthorized, TooLarge) as error:
            if b"expect" not in headers:  # who waits for leave to send it gets this instead
                await _drain(receive)
            answer = known_error(Request(scope), error)
            answer.headers["Connection"] = "close"
            await answer(scope, receive, send)
            return
        if direct := self._direct(scope):
            scope["app"] = self.app
            await _past_layers(direct, Request(scope, receive), send)
        elif scope["method"] == "HEAD" and not scope["path"].endswith(STREAMED):
            await self.app({**scope, "method": "GET"}, receive, _without_body(send))
        else:
            await self.app(scope, receive, send)

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Raises Unauthorized and TooLarge."""
        if not self._may_ask(scope, headers):
            raise Unauthorized("the token is missing or wrong; give it as `Authorization: Bearer TOKEN`")
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers or not length.isdigit() or len(length) > 18:
            raise TooLarge("a body has a Content-Length, and is not chunked")
        check_size(int(length), *_most(scope["method"], scope["path"]))

    def _may_ask(self, scope: Scope, headers: dict[bytes, bytes]) -> bool:
        """Whether it has the token, or a session, or asks for what needs neither. Raises Unauthorized."""
        method, path = scope["method"], scope["path"]
        if path == f"{PREFIX}/health" and method in SAFE:
            return True
        if b"authorization" in headers:
            given = headers[b"authorization"]
            scrapes = path == SCRAPE and method in SAFE and hmac.compare_digest(given, self._scrapes)
            return scrapes or hmac.compare_digest(given, self._expected)
        if path == SESSION and method == "POST":  # to sign in; from our page, where a browser asks
            if b"origin" in headers or b"sec-fetch-site" in headers:
                self._browsers.check(method, headers)
            return True
        if path == SESSION and method in SAFE:  # whether there is one
            with contextlib.suppress(Unauthorized):
                signed_in(scope, self._browsers.session(method, headers))
            return True
        session = self._browsers.session(method, headers)
        signed_in(scope, session)
        return session is not None


def _most(method: str, path: str) -> tuple[int, str]:
    """Bytes that a request may have, and what it is."""
    if path == SUBMIT and method == "POST":
        return SUBMISSION_BYTES, "a submission"
    if path.endswith("/report"):
        return REPORT_BYTES, "a host's report"
    if method == "PUT" and path.startswith(f"{PREFIX}/transfers/"):
        return PIECE_BYTES, "a piece of a file"
    if path == f"{PREFIX}/plan" or path.startswith(f"{SUBMIT}/"):
        return BODY_BYTES, "a request with a job file"
    return PLAIN_BYTES, "a request of this kind"


async def _past_layers(route: Route, request: Request, send: Send) -> None:
    """A route that FastAPI has too, without its layers."""
    try:
        answer = await route(request)
    except ClientDisconnect:
        return
    except errors.TuneyardError as error:
        answer = known_error(request, error)
    except Exception as error:  # the request's outermost edge
        answer = unknown_error(request, error)
    await answer(request.scope, request.receive, send)


def _without_body(send: Send) -> Send:
    """The answer to GET as one to HEAD."""

    async def head(message: MutableMapping[str, Any]) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return head


async def _drain(receive: Receive) -> None:
    """Take in what is being sent, and forget it."""
    taken = 0
    try:
        async with asyncio.timeout(DRAIN_S):
            while taken <= DRAINED_BYTES:
                message = await receive()
                taken += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return
