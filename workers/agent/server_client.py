"""The host's line to the server: join and report over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import httpx
from pydantic import ValidationError

from jobs.errors import Busy, Conflict, NotFound, TuneyardError, Unauthorized, Unavailable
from jobs.message_base import Message
from jobs.messages.reports import HostInfo, HostOrders, HostReport, Joined

M = TypeVar("M", bound=Message)
_PIECE = httpx.Timeout(90.0, connect=5.0)  # the server answers once its reader has room for the next
MOST_WAIT_S = 60.0
_TIMEOUT = httpx.Timeout(15.0, connect=5.0)  # seconds


class JoinAnew(TuneyardError):
    """The server does not hold this host under this id."""


class Link:
    """POSTs to one server, or to the first of several that answers: those of one database stand in for each other.

    Raises Unauthorized (401), JoinAnew (404, 409 to a report), Conflict (409 to a join: another host has this
    name), Busy (429, 503 that say when to come again), and Unavailable for everything else after which the same message
    may be sent again: no connection, no answer in time, an answer that is none.
    """

    def __init__(self, server_url: str, token: str) -> None:
        """server_url: one, or several with commas between."""
        self._urls = [one.rstrip("/") for one in server_url.split(",")]
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            timeout=_TIMEOUT,
        )

    @property
    def _url(self) -> str:
        return self._urls[0]

    def _at(self, path: str) -> str:
        return f"{self._url}/api/v1{path}"

    def join(self, info: HostInfo) -> Joined:
        return self._post("/hosts/join", info, Joined)

    def report(self, host_id: int, report: HostReport) -> HostOrders:
        return self._post(f"/hosts/{host_id}/report", report, HostOrders, lost_is_join=True)

    def put_piece(self, order_id: str, offset: int, total: int, data: bytes) -> None:
        """A piece of a result. Raises NotFound or Conflict where the server wants no more of it."""
        given = {"offset": offset, "total": total}
        self._hand(
            lambda: self._client.put(
                self._at(f"/transfers/{order_id}"), params=given, content=data, timeout=_PIECE
            )
        )

    def fail_order(self, order_id: str, kind: str, message: str) -> None:
        """Why a result can't be sent."""
        body = {"kind": kind, "message": message}
        self._hand(lambda: self._client.post(self._at(f"/transfers/{order_id}/failure"), json=body))

    def _hand(self, send: Callable[[], httpx.Response]) -> None:
        try:
            response = send()
        except httpx.HTTPError as error:
            raise Unavailable(f"the server at {self._url} can't be reached: {error}") from error
        if response.status_code == 404:
            raise NotFound(_said(response))
        if response.status_code == 409:
            raise Conflict(_said(response))
        if not response.is_success:
            raise Unavailable(f"the server answered {response.status_code}: {response.text[:500]}")

    def close(self) -> None:
        self._client.close()

    def _post(self, path: str, message: Message, answer: type[M], lost_is_join: bool = False) -> M:
        try:
            return self._ask(path, message, answer, lost_is_join)
        except Busy:
            raise
        except Unavailable:
            self._urls = [*self._urls[1:], self._urls[0]]  # the next one is asked the next time
            raise

    def _ask(self, path: str, message: Message, answer: type[M], lost_is_join: bool) -> M:
        try:
            response = self._client.post(self._at(path), content=message.model_dump_json(exclude_none=True))
        except httpx.HTTPError as error:
            raise Unavailable(f"the server at {self._url} can't be reached: {error}") from error
        except httpx.InvalidURL as error:
            raise Unavailable(f"{self._url} is no server address: {error}") from error
        if response.status_code == 401:
            raise Unauthorized(
                f"the server at {self._url} refuses this token: take the one in its home's config.json"
            )
        if lost_is_join and response.status_code in (404, 409):
            raise JoinAnew(f"the server at {self._url} wants this host to join again")
        if response.status_code == 409:
            raise Conflict(_said(response))
        if response.status_code in (429, 503) and (after_s := _retry_after_s(response)):
            raise Busy(f"the server at {self._url} asks to wait", after_s)
        if not response.is_success:
            raise Unavailable(f"{path}: the server answered {response.status_code}: {response.text[:500]}")
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            raise Unavailable(f"{path}: no answer of a tuneyard server of this version: {error}") from error


def _retry_after_s(response: httpx.Response) -> float:
    """Seconds that the server wants to be left alone for, at most MOST_WAIT_S; 0 where it does not say."""
    said = response.headers.get("Retry-After", "")
    return min(MOST_WAIT_S, float(said)) if said.isascii() and said.isdigit() else 0.0


def _said(response: httpx.Response) -> str:
    """The server's own words of an error."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {response.status_code}: {response.text[:500]}"
