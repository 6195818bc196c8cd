"""Group commit: submissions that arrive while one transaction is being made durable share the next."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.store import Store
from orchestrator.store.requests import NewJob
from orchestrator.store.rows import JobRow

MAX_GROUP = 256


@dataclass
class _Waiting:
    jobs: list[NewJob]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[list[JobRow]]


class GroupCommit:
    """submit() returns once its jobs are durable.

    A local SQLite file is written from the event loop itself: handing over to a thread and back would cost a quarter of
    the insert, and requests that come in meanwhile make the next group. A database across a network may hang, so
    there one writer thread waits for it.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._inline = store.is_sqlite
        self._pending: list[_Waiting] = []
        self._inbox: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="commits", daemon=True)

    def open(self) -> None:
        if not self._inline:
            self._thread.start()

    def close(self) -> None:
        if not self._inline:
            self._inbox.put(None)
            self._thread.join(10)

    async def submit(self, jobs: list[NewJob]) -> list[JobRow]:
        """Store these jobs, all or none."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(jobs, loop, loop.create_future())
        if not self._inline:
            self._inbox.put(waiting)
        else:
            self._pending.append(waiting)
            if len(self._pending) == 1:
                loop.call_soon(self._flush)
        return await waiting.done

    def _flush(self) -> None:
        """On the event loop: whatever was submitted in this turn of it."""
        group, self._pending = self._pending, []
        self._commit(group, lambda _, answer: answer())

    def _run(self) -> None:
        while (first := self._inbox.get()) is not None:
            group = [first]
            while len(group) < MAX_GROUP and not self._inbox.empty():
                following = self._inbox.get()
                if following is None:
                    self._inbox.put(None)
                    break
                group.append(following)
            self._commit(group, lambda loop, answer: loop.call_soon_threadsafe(answer))

    def _commit(
        self, group: list[_Waiting], tell: Callable[[asyncio.AbstractEventLoop, Callable[[], None]], object]
    ) -> None:
        try:
            stored = self._store.submit_groups([waiting.jobs for waiting in group], self._clock())
        except Exception as error:  # the writer's outermost edge: every waiting request must get an answer
            for waiting in group:
                tell(waiting.loop, _failure(waiting.done, error))
            return
        for waiting, rows in zip(group, stored, strict=True):
            tell(waiting.loop, _success(waiting.done, rows))


def _success(done: asyncio.Future[list[JobRow]], rows: list[JobRow]) -> Callable[[], None]:
    # The client may have gone away meanwhile.
    return lambda: None if done.done() else done.set_result(rows)


def _failure(done: asyncio.Future[list[JobRow]], error: Exception) -> Callable[[], None]:
    return lambda: None if done.done() else done.set_exception(error)
