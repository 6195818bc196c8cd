"""Requests of browsers: the files of the page, which anybody may have, and cookies in place of the token."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Response
from fastapi.responses import PlainTextResponse

from jobs.errors import Unauthorized
from orchestrator.api.browsers.origins import SAFE, Origins
from orchestrator.api.browsers.sessions import Session, Sessions, cookie_in
from orchestrator.client.responses import USER_HEADER
from orchestrator.web.site import HEADERS, Site

_USER = USER_HEADER.lower().encode()


@dataclass(frozen=True)
class Browsers:
    """cookie: its name."""

    site: Site
    sessions: Sessions
    origins: Origins
    cookie: str

    def file(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> Response:
        """The answer to a request outside of the API. The page itself shows nothing without a session."""
        if not self.origins.knows(headers):
            host = headers.get(b"host", b"").decode("latin-1")
            text = f"this server does not go by {host!r}: start it with --hostname NAME, or use its address\n"
            return PlainTextResponse(text, 421, HEADERS)
        found = self.site.files.get(path)
        if found is None:
            if path.startswith("/v/"):
                text = "this file is of another version of tuneyard: reload the page\n"
                return PlainTextResponse(text, 404, {**HEADERS, "Cache-Control": "no-store"})
            return PlainTextResponse(f"there is no {path}; the page is at /\n", 404, HEADERS)
        if method not in SAFE:
            return PlainTextResponse("this takes GET, HEAD\n", 405, {**HEADERS, "Allow": "GET, HEAD"})
        packs = b"gzip" in headers.get(b"accept-encoding", b"")
        answer = Response(found.packed if packs else found.body, 200, HEADERS, found.media_type)
        answer.headers.update({"Cache-Control": found.caching, "Vary": "Accept-Encoding"})
        if packs:
            answer.headers["Content-Encoding"] = "gzip"
        return answer

    def check(self, method: str, headers: Mapping[bytes, bytes]) -> None:
        """Raises Unauthorized where another page is behind a request, or it goes to a name that is not ours."""
        if not self.origins.knows(headers):
            raise Unauthorized("this server does not go by the name in Host: start it with --hostname NAME")
        if why := self.origins.refuses(headers, method):
            raise Unauthorized(f"a session is for the page of this server alone, and {why}")

    def session(self, method: str, headers: Mapping[bytes, bytes]) -> Session | None:
        """That of the cookie, None without one. Raises Unauthorized."""
        found = cookie_in(headers.get(b"cookie", b"").decode("latin-1"), self.cookie)
        if not found:
            return None
        self.check(method, headers)
        session = self.sessions.of_cookie(found)
        if session is None:
            raise Unauthorized("the session is over: sign in again")
        return session


def signed_in(scope: MutableMapping[str, Any], session: Session | None) -> None:
    """What routes find of a session: itself, and its user as the one who asks."""
    if session is None:
        return
    scope["state"] = {**scope.get("state", {}), "session": session}
    others = [one for one in scope["headers"] if one[0] != _USER]
    scope["headers"] = [*others, (_USER, quote(session.user).encode())]
