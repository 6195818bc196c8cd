"""The threads that submissions are worked on: the event loop parses nothing and waits for no disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from orchestrator.api.edge.budget import SMALL_BYTES, Allowance, Budget

SMALL_THREADS = 4  # one may wait for a disk that hangs
T = TypeVar("T")


class Lanes:
    """Small submissions do not wait for large ones, which are worked on one after the other."""

    def __init__(self) -> None:
        self.budget = Budget()
        self._small = ThreadPoolExecutor(SMALL_THREADS, "submit")
        self._large = ThreadPoolExecutor(1, "submit-large")

    async def run(self, address: str, size: int, work: Callable[[Allowance], T]) -> T:
        """What work() returns, done on a thread. address, size: whose it is, and its bytes. Raises Busy."""
        client = self.budget.enter(address, size)
        used_s = 0.0

        def worked() -> T:
            nonlocal used_s
            allowance = Allowance()
            try:
                return work(allowance)
            finally:
                used_s = allowance.used_s

        lane = self._small if size <= SMALL_BYTES else self._large
        doing = asyncio.get_running_loop().run_in_executor(lane, worked)
        # A client that goes away ends the wait, not the work.
        doing.add_done_callback(lambda done: self.budget.leave(client, size, used_s))
        return await asyncio.shield(doing)

    def close(self) -> None:
        """What has not begun never does."""
        for lane in (self._small, self._large):
            lane.shutdown(wait=False, cancel_futures=True)
