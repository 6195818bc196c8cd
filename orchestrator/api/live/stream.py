"""One follower of the fleet: server-sent events until it goes, or reads too slowly."""

from __future__ import annotations

import asyncio
import contextlib

from fastapi import Response
from starlette.types import Receive, Scope, Send

from orchestrator.api.edge.connections import ABORT
from orchestrator.api.live.feed import Feed

SLOW_S = 20.0  # for one event to leave: who takes longer is dropped, and may come again
RETRY_MS = 2000  # when a browser comes again after a cut
# Of a stream of gzip: no name, no time, an unknown system. Its trailer never comes, for the stream has no end.
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


class EventStream(Response):
    """Follows a feed that has admitted it. mark: the Last-Event-ID; packs: whether the client takes gzip."""

    media_type = "text/event-stream"

    def __init__(self, feed: Feed, address: str, mark: str, packs: bool) -> None:
        self._feed, self._address, self._mark, self._packs = feed, address, mark, packs
        # X-Accel-Buffering: nginx hands each event on at once.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        if packs:
            headers["Content-Encoding"] = "gzip"
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self.headers["Vary"] = "Accept-Encoding"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client is gone, the feed closes, or the client is too slow."""
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            await self._send_all(send, gone)
        except TimeoutError:
            abort(scope)
        finally:
            self._feed.leave(self._address)
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone

    async def _send_all(self, send: Send, gone: asyncio.Future[None]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await self._body(send, _GZIP_HEAD if self._packs else b"")
        await self._body(send, self._plain(f"retry: {RETRY_MS}\n\n".encode()))
        async with contextlib.aclosing(self._feed.follow(self._mark, gone)) as pieces:
            async for one in pieces:
                await self._body(send, one.packed if self._packs else one.plain)
        await asyncio.wait_for(send({"type": "http.response.body", "body": b""}), SLOW_S)

    async def _body(self, send: Send, data: bytes) -> None:
        if data:
            await asyncio.wait_for(
                send({"type": "http.response.body", "body": data, "more_body": True}), SLOW_S
            )

    def _plain(self, text: bytes) -> bytes:
        """A few bytes, as a stored block of a deflate stream where it is packed."""
        if not self._packs:
            return text
        size = len(text)
        return b"\x00" + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little") + text


def abort(scope: Scope) -> None:
    """End the connection without waiting for what it has not taken."""
    if (found := scope.get("extensions", {}).get(ABORT)) is not None:
        found["now"]()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
