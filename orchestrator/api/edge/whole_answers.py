"""An answer leaves in one piece: its head waits for its body."""

from __future__ import annotations

import asyncio
from typing import Any

AT_ONCE_BYTES = 64 * 1024  # what is larger is not held back


class WholeAnswers:
    """A transport whose writes of one round of the event loop are one: one call to the kernel, one packet, and a client
    that wakes once. On loopback each of them costs a tenth of a submission.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """At the end of this round of the loop, or at once where much waits."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > AT_ONCE_BYTES:
            self._flush()

    def close(self) -> None:
        """Once all is written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        parts, self._parts, self._size = self._parts, [], 0
        if parts and not self._transport.is_closing():
            self._transport.writelines(parts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
