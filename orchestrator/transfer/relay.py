"""Bytes that a host sends and a client reads, handed on piece by piece: never more than a few are held.

All of it runs on the server's event loop, except orders(), which only looks.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from jobs.errors import Conflict, NotFound, TuneyardError, Unavailable
from jobs.messages.send_result import SendOrder

AHEAD = 2  # pieces that are held while the client reads
BEGIN_S = 20.0  # a host looks for orders every second
QUIET_S = 60.0  # without a piece from the host, or without the client taking one
MOST = 32  # transfers at a time


class Transfer:
    """One order, and what has come of it."""

    def __init__(self, host_id: int, host: str, order: SendOrder) -> None:
        self.host_id, self.host, self.order = host_id, host, order
        self.next = order.offset  # where the next piece belongs
        self.total: int | None = None
        self.closed = False
        self._failure: TuneyardError | None = None
        self._pieces: deque[bytes] = deque()
        self._changed = asyncio.Event()  # replaced each time that something changes

    async def put(self, offset: int, total: int, read: Callable[[], Awaitable[bytes]]) -> None:
        """Take a piece once there is room. Raises NotFound where nobody wants it, Conflict where it does not
        follow: the next order says what does.
        """
        await self._until(lambda: len(self._pieces) < AHEAD, QUIET_S)
        self._check(offset)
        data = await read()
        self._check(offset)  # another agent of this host may have been quicker
        if self.total not in (None, total) or offset + len(data) > total:
            said = f"{offset + len(data)} of {self.total or total} bytes: the result was changed"
            self._failure = self._failure or Conflict(f"{said} (host {self.host})")
            self._notify()
            raise NotFound("it was changed")
        self.total, self.next = total, offset + len(data)
        self._pieces.append(data)
        self._notify()

    async def fail(self, error: TuneyardError) -> None:
        """The host can't send it, or no more of it."""
        self._failure = self._failure or error
        self._notify()

    async def begun(self) -> None:
        """Wait for the first piece. Raises what the host says, Unavailable where it says nothing."""
        if not await self._until(lambda: bool(self._pieces), BEGIN_S):
            raise Unavailable(
                f"host {self.host} did not begin to send within {BEGIN_S:.0f} s; its host.log may say why, "
                "and an agent of an older version can't"
            )

    async def pieces(self) -> AsyncIterator[bytes]:
        """What comes, in order. Raises what the host says, Unavailable where it stops."""
        while self.total is None or self._pieces or self.next < self.total:
            if not await self._until(lambda: bool(self._pieces), QUIET_S):
                raise Unavailable(f"host {self.host} sent nothing for {QUIET_S:.0f} s")
            piece = self._pieces.popleft()
            self._notify()
            yield piece

    async def close(self) -> None:
        self.closed = True
        self._notify()

    def _check(self, offset: int) -> None:
        if self.closed or len(self._pieces) >= AHEAD:
            raise NotFound("nobody reads this any more")
        if offset != self.next:
            raise Conflict(f"the next piece begins at {self.next}")

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _until(self, ready: Callable[[], bool], limit_s: float) -> bool:
        """Wait for it. False after limit_s, or where it is closed. Raises what the host said."""
        deadline = asyncio.get_running_loop().time() + limit_s
        while not (ready() or self.closed or self._failure is not None):
            left = deadline - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, left))
            except TimeoutError:
                return False
        if self._failure is not None and not ready():
            raise self._failure
        return not self.closed


class Relay:
    """The transfers that are under way."""

    def __init__(self) -> None:
        self._open: dict[str, Transfer] = {}

    def orders(self, host_id: int) -> list[SendOrder]:
        """What a host is to send, each from where its next piece belongs."""
        return [
            one.order.model_copy(update={"offset": one.next})
            for one in list(self._open.values())
            if one.host_id == host_id and one.next != one.total
        ]

    def open(self, host_id: int, host: str, order: SendOrder) -> Transfer:
        """Have a host send something. The caller closes it. Raises Unavailable where too many are open."""
        if len(self._open) >= MOST:
            raise Unavailable(f"{MOST} results are being copied already; try again when one is through")
        transfer = Transfer(host_id, host, order.model_copy(update={"id": uuid.uuid4().hex}))
        self._open[transfer.order.id] = transfer
        return transfer

    def find(self, order_id: str) -> Transfer:
        """Raises NotFound for one that is over."""
        try:
            return self._open[order_id]
        except KeyError:
            raise NotFound("nobody reads this any more") from None

    async def close(self, transfer: Transfer) -> None:
        self._open.pop(transfer.order.id, None)
        await transfer.close()
