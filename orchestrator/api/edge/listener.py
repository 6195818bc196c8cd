"""The event loop that requests come in on, which says that it is not held up."""

from __future__ import annotations

from collections.abc import Callable

import uvicorn


class Listener(uvicorn.Server):
    """uvicorn, whose loop beats ten times a second: while it is blocked, stopped or suspended, nobody is heard."""

    def __init__(self, config: uvicorn.Config, beat: Callable[[], None]) -> None:
        super().__init__(config)
        self._beat = beat

    async def on_tick(self, counter: int) -> bool:
        self._beat()
        return await super().on_tick(counter)
