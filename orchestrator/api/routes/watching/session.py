"""Routes of signing in to the web page, and out; for the page alone, so not in the OpenAPI document."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from jobs.errors import Unauthorized
from orchestrator.api.actors import actor, address
from orchestrator.api.browsers.sessions import LIFE_S, TICKET_S, Session, Sessions, user_in
from orchestrator.api.edge.refusals import bad_parameter, body_fault, unreadable
from orchestrator.api.routes.jobs import services

FORWARDED_PROTO = "x-forwarded-proto"


async def sign_in(request: Request) -> Response:
    """{"token", "user"} or {"ticket"} -> a cookie. Raises Unauthorized, and Busy for who guesses."""
    body = await _body(request)
    sessions = _sessions(request)
    if isinstance(ticket := body.get("ticket"), str):
        session = sessions.with_ticket(ticket, address(request))
    elif isinstance(token := body.get("token"), str):
        session = sessions.with_token(token, user_in(body), address(request))
    else:
        raise bad_parameter("token", body.get("token"), "send the server's token, or the ticket of a link")
    answer = JSONResponse(_shown(session))
    _set(answer, request, sessions.cookie_of(session), round(LIFE_S))
    return answer


async def sign_out(request: Request) -> Response:
    """The session ends, and its cookie goes."""
    if (session := _session(request)) is not None:
        _sessions(request).end(session)
    answer = Response(status_code=204)
    _set(answer, request, "", 0)
    return answer


async def who(request: Request) -> Response:
    """Who is signed in; user is null where nobody is."""
    session = _session(request)
    shown = {"user": None, "until": None} if session is None else _shown(session)
    return JSONResponse(shown, headers={"Cache-Control": "no-store"})


async def ticket(request: Request) -> Response:
    """A link that signs in once, for who has the token."""
    if _session(request) is not None:
        raise Unauthorized("a session makes no links; give the token as `Authorization: Bearer TOKEN`")
    made = _sessions(request).ticket(actor(request).user)
    # In the fragment: no log of a server or a proxy has it.
    url = f"{services(request).settings.url}/#ticket={made}"
    return JSONResponse({"ticket": made, "url": url, "expires_s": TICKET_S})


def cookie_name(port: int) -> str:
    """Cookies go to all ports of a name: those of two servers on one machine need two names."""
    return f"tuneyard_{port}"


def _shown(session: Session) -> dict[str, Any]:
    return {"user": session.user, "until": session.until}


def _set(answer: Response, request: Request, value: str, age_s: int) -> None:
    settings = services(request).settings
    safe = request.headers.get(FORWARDED_PROTO, "") == "https" and bool(settings.proxies)
    name = cookie_name(settings.port)
    answer.set_cookie(name, value, max_age=age_s, path="/", httponly=True, samesite="strict", secure=safe)
    answer.headers["Cache-Control"] = "no-store"


def _sessions(request: Request) -> Sessions:
    return services(request).sessions


def _session(request: Request) -> Session | None:
    found: Session | None = request.scope.get("state", {}).get("session")
    return found


async def _body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise unreadable([body_fault(raw)]) from None
    return body if isinstance(body, dict) else {}
