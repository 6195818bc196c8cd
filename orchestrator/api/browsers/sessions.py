"""Who is signed in to the web page: cookies that the server's token signs, and links that sign in once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobs.errors import Busy, Unauthorized

LIFE_S = 7 * 86_400.0  # of a session
TICKET_S = 600.0  # of a link that signs in once
MOST_TICKETS = 1000
MOST_FAILURES, FAILURES_S = 10, 60.0  # of one address, until it has to wait
MOST_ADDRESSES = 10_000


@dataclass(frozen=True)
class Session:
    """A browser that is signed in. user: as whoever signed in said; until: Unix seconds."""

    id: str
    user: str
    until: float


class Sessions:
    """For the event loop alone: nothing here waits. Servers that have one token take each other's cookies."""

    def __init__(self, token: str, clock: Callable[[], float]) -> None:
        self._token, self._clock = token.encode(), clock
        self._key = hmac.new(self._token, b"session of the web page", hashlib.sha256).digest()
        self._tickets: dict[str, tuple[str, float]] = {}  # by digest: user, until
        self._ended: dict[str, float] = {}  # sessions signed out of, until they would have ended
        self._failures: dict[str, deque[float]] = {}  # by address

    def with_token(self, token: str, user: str, address: str) -> Session:
        """A new session. Raises Unauthorized, and Busy where the address guesses."""
        self._admit(address)
        if not hmac.compare_digest(token.encode(), self._token):
            self._fail(address)
            raise Unauthorized(
                "this is not the server's token; on its machine it stands in ~/.tuneyard/config.json"
            )
        return self._new(user)

    def ticket(self, user: str) -> str:
        """Signs in once, within TICKET_S."""
        now = self._clock()
        self._tickets = {one: kept for one, kept in self._tickets.items() if kept[1] > now}
        if len(self._tickets) >= MOST_TICKETS:
            raise Busy(f"{MOST_TICKETS} links that sign in are open already", TICKET_S)
        made = secrets.token_urlsafe(24)
        self._tickets[_digest(made)] = (user, now + TICKET_S)
        return made

    def with_ticket(self, ticket: str, address: str) -> Session:
        """A new session. Raises Unauthorized for one that was used, or is too old."""
        self._admit(address)
        user, until = self._tickets.pop(_digest(ticket), ("", 0.0))
        if until <= self._clock():
            self._fail(address)
            raise Unauthorized(
                "this link was used already, or is older than 10 minutes; `tuneyard web` prints a new one"
            )
        return self._new(user)

    def cookie_of(self, session: Session) -> str:
        """The value of the cookie of a session."""
        said = _text(json.dumps([session.id, session.user, round(session.until)]).encode())
        return f"{said}.{_text(self._mac(said))}"

    def of_cookie(self, value: str) -> Session | None:
        """The session of a cookie; None for one that is not ours, over, or signed out of."""
        said, _, mac = value.partition(".")
        if not value.isascii() or not hmac.compare_digest(mac, _text(self._mac(said))):
            return None
        id_, user, until = json.loads(base64.urlsafe_b64decode(said + "=" * (-len(said) % 4)))
        if until <= self._clock() or id_ in self._ended:
            return None
        return Session(id_, user, until)

    def end(self, session: Session) -> None:
        """Sign out: its cookie is worth nothing here from now on."""
        now = self._clock()
        self._ended = {one: until for one, until in self._ended.items() if until > now}
        self._ended[session.id] = session.until

    def _new(self, user: str) -> Session:
        return Session(secrets.token_urlsafe(12), user, self._clock() + LIFE_S)

    def _mac(self, said: str) -> bytes:
        return hmac.new(self._key, said.encode(), hashlib.sha256).digest()

    def _admit(self, address: str) -> None:
        """Raises Busy where an address has failed too often of late."""
        failed, now = self._failures.get(address), self._clock()
        while failed and failed[0] <= now - FAILURES_S:
            failed.popleft()
        if failed and len(failed) >= MOST_FAILURES:
            raise Busy(
                f"{len(failed)} tokens or links from {address} were wrong", failed[0] + FAILURES_S - now
            )

    def _fail(self, address: str) -> None:
        if len(self._failures) >= MOST_ADDRESSES:
            self._failures.clear()
        self._failures.setdefault(address, deque(maxlen=MOST_FAILURES)).append(self._clock())


def _digest(text: str) -> str:
    """A dictionary is searched by it: what the time of a search tells is nothing of the ticket."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def cookie_in(header: str, name: str) -> str:
    """The value of a cookie in the header Cookie, "" where there is none."""
    for part in header.split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value
    return ""


def user_in(body: Any) -> str:
    """The name that a sign-in states: printable, at most 100 characters."""
    user = body.get("user", "") if isinstance(body, dict) else ""
    return "".join(one for one in str(user) if one.isprintable()).strip()[:100]
