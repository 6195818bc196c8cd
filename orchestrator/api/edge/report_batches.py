"""Reports of hosts are taken together: those that come while a group is being written are the next one.

The event loop only collects them. One thread reads, stores and answers a whole group under one commit.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from jobs.errors import Busy
from jobs.units import MiB

APART_S = 0.05  # between two groups: a host that is alone with its news does not wait
MOST_REPORTS = 128  # of a group
MOST_BYTES = 4 * MiB  # of a group, unless it has only one
WAIT_S = 5.0  # that a report may have before it; agents wait 15 s for an answer
CROWDED_S = 0.1  # that it may have before it while others need not care
WAITING_BYTES = 64 * MiB
FORGET = 0.2  # how much the newest group counts in what one report takes

Report = tuple[int, bytes]  # the host's id, and the body
Answer = bytes | Exception
Work = Callable[[Sequence[Report]], Sequence[Answer]]


@dataclass
class _Waiting:
    host_id: int
    body: bytes
    answer: asyncio.Future[bytes]


class ReportQueue:
    """For the event loop alone: put() returns once its report is durable."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "reports")
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._each_s = 0.0  # what a report takes, of late
        self._began = -math.inf  # when the last group did
        self._at_work = False
        self._drain: asyncio.Task[None] | None = None
        self.taken = 0  # since the server began

    async def put(self, host_id: int, body: bytes, work: Work) -> bytes:
        """The answer to a report. work: for the thread. Raises Busy where too many wait, and what work answers."""
        self._admit(len(body))
        mine = _Waiting(host_id, body, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        self._bytes += len(body)
        if self._drain is None:
            self._drain = asyncio.create_task(self._all(work))
        answer = await mine.answer
        self.taken += 1
        return answer

    def close(self) -> None:
        """What has not begun never does."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def admits(self) -> bool:
        """Whether a host that speaks now is heard. While it is not, its silence is no fault of its own."""
        return self._before_s() <= WAIT_S and self._bytes < WAITING_BYTES

    @property
    def crowded(self) -> bool:
        """Whether reports pile up. From any thread."""
        return self._before_s() > CROWDED_S

    def _before_s(self) -> float:
        """How long a report that comes now would wait."""
        at_work_s = self._clock() - self._began if self._at_work and self._waiting else 0.0
        return max(len(self._waiting) * self._each_s, at_work_s)

    def _admit(self, size: int) -> None:
        if not self.admits or self._bytes + size > WAITING_BYTES:
            text = f"{len(self._waiting)} reports are waiting already"
            raise Busy(text, max(1, math.ceil(self._before_s())))

    async def _all(self, work: Work) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(max(0.0, self._began + APART_S - self._clock()))
                self._began = self._clock()
                group = self._take()
                answers = await self._answers(work, group)
                self._each_s += FORGET * ((self._clock() - self._began) / len(group) - self._each_s)
                for waiting, answer in zip(group, answers, strict=True):
                    if waiting.answer.done():  # who asked has gone
                        continue
                    if isinstance(answer, Exception):
                        waiting.answer.set_exception(answer)
                    else:
                        waiting.answer.set_result(answer)
        finally:
            self._drain = None

    async def _answers(self, work: Work, group: Sequence[_Waiting]) -> Sequence[Answer]:
        reports = [(waiting.host_id, waiting.body) for waiting in group]
        self._at_work = True
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, reports)
        except Exception as error:  # all that wait must get it
            return [error] * len(group)
        finally:
            self._at_work = False

    def _take(self) -> list[_Waiting]:
        """The oldest, one of a host: what it says later builds upon what it said before."""
        group: dict[int, _Waiting] = {}
        later = []
        size = 0
        for waiting in self._waiting:
            full = len(group) >= MOST_REPORTS or (group and size + len(waiting.body) > MOST_BYTES)
            if full or waiting.host_id in group:
                later.append(waiting)
            else:
                group[waiting.host_id] = waiting
                size += len(waiting.body)
        self._waiting, self._bytes = later, self._bytes - size
        return list(group.values())
