"""The threads that submissions are worked on: the event loop parses nothing and waits for no disk."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from orchestrator.api.edge.budget import SMALL_BYTES, Allowance, Budget
from orchestrator.api.edge.threads import Threads
from orchestrator.store.jobs.submissions import Taken
from orchestrator.store.requests import NewSubmission

SMALL_THREADS = 4  # one may wait for a disk that hangs
T = TypeVar("T")
# Stores jobs, all or none, and tells what was stored, or why not: orchestrator.api.submission.group_commit.
Add = Callable[[NewSubmission, Callable[[Taken | Exception], None]], None]


@dataclass(frozen=True)
class ToStore(Generic[T]):
    """What is left of a submission that was read. answer: made of what was stored, on the thread that stored it."""

    wanted: NewSubmission
    answer: Callable[[Taken], T]


class Lanes:
    """Small submissions do not wait for large ones, which are worked on one after the other.

    No thread waits for a commit that another one makes: it reads the next submission.
    """

    def __init__(self, add: Add) -> None:
        self.budget = Budget()
        self._add = add
        self._small, self._large = Threads(SMALL_THREADS, "submit"), Threads(1, "submit-large")
        self._done: deque[Callable[[], None]] = deque()
        self._told = False  # the event loop is going to look at what is done

    async def run(self, address: str, size: int, work: Callable[[Allowance], T | ToStore[T]]) -> T:
        """What work() returns, or the answer once what it returns is stored; done on threads. Raises Busy.

        address, size: whose submission it is, and its bytes.
        """
        client = self.budget.enter(address, size)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def end(made: T | Exception, used_s: float) -> None:
            def tell() -> None:
                self.budget.leave(client, size, used_s)
                if answer.done():  # the client has gone: that ended the wait, not the work
                    return
                if isinstance(made, Exception):
                    answer.set_exception(made)
                else:
                    answer.set_result(made)

            self._hand(loop, tell)

        lane = self._small if size <= SMALL_BYTES else self._large
        lane.hand(partial(self._work, work, end))
        return await answer

    def close(self) -> None:
        """What has not begun never does."""
        for lane in (self._small, self._large):
            lane.close()

    def _work(
        self, work: Callable[[Allowance], T | ToStore[T]], end: Callable[[T | Exception, float], None]
    ) -> None:
        allowance = Allowance()
        try:
            made = work(allowance)
        except Exception as error:  # the caller is told
            end(error, allowance.used_s)
            return
        read_s = allowance.used_s
        if not isinstance(made, ToStore):
            end(made, read_s)
            return
        answer = made.answer

        def stored(found: Taken | Exception) -> None:
            allowance = Allowance()
            try:
                told = found if isinstance(found, Exception) else answer(found)
            except Exception as error:  # the caller is told
                told = error
            end(told, read_s + allowance.used_s)

        try:
            self._add(made.wanted, stored)
        except Exception as error:  # else nobody answers
            end(error, read_s)

    def _hand(self, loop: asyncio.AbstractEventLoop, tell: Callable[[], None]) -> None:
        """To the event loop, from any thread: it is woken once for answers that come close together."""
        self._done.append(tell)
        if not self._told:
            self._told = True
            loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._told = False  # first: what is done from here on wakes the loop again
        while self._done:
            self._done.popleft()()
