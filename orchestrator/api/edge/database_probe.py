"""What health tells of the database: it is asked on a thread of its own, and not waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from jobs.errors import TuneyardError

WAIT_S = 0.5  # for an answer, once there has been one
FIRST_S = 5.0
SILENT_S = 10.0  # a question that has been open for so long is not going to be answered


@dataclass(frozen=True)
class Beat:
    """The database's last answer. away: why it does not answer now, "" where it does."""

    hosts: int = 0
    online: int = 0
    away: str = ""


class Pulse:
    """For the event loop: look() never takes longer than WAIT_S, except the first answer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "pulse")
        self._asked: asyncio.Future[tuple[int, int]] | None = None
        self._asked_at = 0.0
        self._last: Beat | None = None

    async def look(self, ask: Callable[[], tuple[int, int]]) -> Beat:
        """The newest that is known. ask: for the hosts that there are and those that are online."""
        if self._asked is None:
            self._asked = asyncio.get_running_loop().run_in_executor(self._thread, ask)
            self._asked_at = self._clock()
        asked, known = self._asked, self._last or Beat()
        await asyncio.wait({asked}, timeout=FIRST_S if self._last is None else WAIT_S)
        if not asked.done():
            silent_s = self._clock() - self._asked_at
            away = (
                f"the database has not answered for {silent_s:.0f} s" if silent_s >= SILENT_S else known.away
            )
            return Beat(known.hosts, known.online, away)
        if self._asked is asked:  # the first of those that wait
            self._asked = None
            try:
                self._last = Beat(*asked.result())
            except Exception as error:  # whatever it is, health says it
                kind = "" if isinstance(error, TuneyardError) else f"{type(error).__name__}: "
                self._last = Beat(known.hosts, known.online, f"{kind}{error}")
        return self._last or Beat()

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
