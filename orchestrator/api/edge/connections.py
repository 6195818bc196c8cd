"""Connections that are not let to hold others up: one that sends its request too slowly ends, and there is a most."""

from __future__ import annotations

import asyncio
import json
import math
import resource
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from orchestrator.api.edge.whole_answers import WholeAnswers

HEADER_S = 15.0  # to send the head of a request, and to begin the first
BODY_S = 20.0  # to send a body, and longer by what has come
SLOWEST = 16 * 1024  # bytes a second that a body may come at
PER_ADDRESS = 64  # half-sent requests of one address; what is just beginning does not count
BEGINNING_S = 3.0
ABORT = "tuneyard.abort"  # of a scope's extensions: ends the connection, whatever is still to be sent
KEPT_FILES = 512  # for the database, for files that are read, for processes
MOST = 10_000

_REFUSED = {
    408: ("Request Timeout", "the request did not come in time: {0}"),
    503: ("Service Unavailable", "{0} connections are open already: try again in {1} s"),
}


def most_connections() -> int:
    """As many as the process may have files open, less some. Raises its limit as far as it may itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + KEPT_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST + KEPT_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return min(MOST, max(64, wanted - KEPT_FILES if soft == resource.RLIM_INFINITY else soft - KEPT_FILES))


class Connections:
    """Those that are open, and those of them that owe a request, the oldest first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open: dict[Guarded, None] = {}
        self.owing: dict[Guarded, None] = {}
        self._of: dict[str, dict[Guarded, None]] = {}  # those that owe, by address

    def make_room(self, new: Guarded) -> bool:
        """Whether there is room for another one. What has been sending for a while goes for it, the oldest first."""
        if len(self.open) < self.most:
            return True
        for other in self.owing:
            if other is not new and other.age_s >= BEGINNING_S:
                other.late("others wait")
                return True
        return False

    def owes(self, one: Guarded) -> None:
        """It has begun to send a request. Too many of its address: the oldest of them ends."""
        self.owing[one] = None
        mine = self._of.setdefault(one.address, {})
        mine[one] = None
        while len(mine) > PER_ADDRESS and (oldest := next(iter(mine))).age_s >= BEGINNING_S:
            oldest.late(f"more than {PER_ADDRESS} of this address are half sent")

    def settled(self, one: Guarded) -> None:
        """It owes nothing."""
        self.owing.pop(one, None)
        mine = self._of.get(one.address, {})
        mine.pop(one, None)
        if not mine:
            self._of.pop(one.address, None)


class Guarded(HttpToolsProtocol):
    """uvicorn's protocol, with bounds on time and number. A subclass has the connections of one server."""

    connections_: ClassVar[Connections]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(WholeAnswers(transport, self.loop))  # type: ignore[arg-type]
        self._timer: asyncio.TimerHandle | None = None
        self._owed_s: float | None = None  # how long what it owes may take
        self._received = 0
        self._began = self.loop.time()
        self.address = self.client[0] if self.client else ""
        if not self.connections_.make_room(self):
            self._refuse(503, len(self.connections_.open), math.ceil(BEGINNING_S))
            return
        self.connections_.open[self] = None
        self._owed_s = HEADER_S
        self._owe(HEADER_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._settled()
        self.connections_.open.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """What has come whole is never owed: no timer is set for it."""
        before_s = self._owed_s
        super().data_received(data)
        if self._owed_s is not None and (self._owed_s != before_s or self._timer is None):
            self._owe(self._owed_s)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._owed_s is None:  # the first has been waited for since the connection was made
            self._owed_s = HEADER_S

    def on_headers_complete(self) -> None:
        # Before the request is worked on: who sends without an end may have to end it.
        self.scope["extensions"] = {ABORT: {"now": self.transport.abort}}
        super().on_headers_complete()
        self._owed_s, self._received = BODY_S, 0

    def on_body(self, body: bytes) -> None:
        self._received += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._owed_s = None
        if self._timer is not None:
            self._settled()
        super().on_message_complete()

    @property
    def age_s(self) -> float:
        """Since it began to send what it owes."""
        return self.loop.time() - self._began

    def late(self, why: str) -> None:
        """End it, with the reason where no answer has begun."""
        self._settled()
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()
        else:
            self._refuse(408, why)

    def _owe(self, limit_s: float) -> None:
        self._settled()
        self._began = self.loop.time()
        self._timer = self.loop.call_later(limit_s, self._look, limit_s)
        self.connections_.owes(self)

    def _look(self, limit_s: float) -> None:
        now = self.loop.time()
        if self.flow.read_paused:  # it is us who are slow
            self._began, self._received = now, 0
        deadline = self._began + limit_s + self._received / SLOWEST
        if now >= deadline:
            self.late(f"{self._received} bytes in {self.age_s:.0f} s")
        else:
            self._timer = self.loop.call_at(deadline, self._look, limit_s)

    def _settled(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.connections_.settled(self)

    def _refuse(self, status: int, *figures: Any) -> None:
        phrase, text = _REFUSED[status]
        kind = "unavailable" if status == 503 else "usage"
        error = {"kind": kind, "message": text.format(*figures), "faults": []}
        body = json.dumps({"error": error}).encode()
        more = f"Retry-After: {figures[1]}\r\n" if status == 503 else ""
        head = (
            f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\n{more}"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def guarded(most: int) -> type[Guarded]:
    """The protocol of one server. most: connections that it takes."""
    return type("GuardedHere", (Guarded,), {"connections_": Connections(most)})
