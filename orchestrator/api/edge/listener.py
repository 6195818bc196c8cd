"""The event loop that requests come in on, which says that it is not held up."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn


class Listener(uvicorn.Server):
    """uvicorn, whose loop beats ten times a second: while it is blocked, stopped or suspended, nobody is heard.

    closing: called as it begins to end, for answers that would not.
    """

    def __init__(self, config: uvicorn.Config, beat: Callable[[], None], closing: Callable[[], None]) -> None:
        super().__init__(config)
        self._beat, self._closing = beat, closing

    async def on_tick(self, counter: int) -> bool:
        self._beat()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing()
        await super().shutdown(sockets)
