"""Group commit: submissions that arrive while one transaction is being made durable share the next."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from dataclasses import dataclass

from orchestrator.store import Store
from orchestrator.store.rows import JobRow, NewJob

MAX_GROUP = 256


@dataclass
class _Waiting:
    jobs: list[NewJob]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[list[JobRow]]


class GroupCommit:
    """One writer thread. submit() returns once its jobs are durable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._inbox: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="commits", daemon=True)

    def open(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._inbox.put(None)
        self._thread.join(10)

    async def submit(self, jobs: list[NewJob]) -> list[JobRow]:
        """Store these jobs, all or none."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(jobs, loop, loop.create_future())
        self._inbox.put(waiting)
        return await waiting.done

    def _run(self) -> None:
        while (first := self._inbox.get()) is not None:
            group = [first]
            ending = False
            while len(group) < MAX_GROUP and not self._inbox.empty():
                following = self._inbox.get()
                if following is None:
                    ending = True
                    break
                group.append(following)
            self._commit(group)
            if ending:
                return

    def _commit(self, group: list[_Waiting]) -> None:
        try:
            stored = self._store.submit_groups([waiting.jobs for waiting in group], time.time())
        except Exception as error:  # the thread's outermost edge: every waiting request must get an answer
            for waiting in group:
                waiting.loop.call_soon_threadsafe(_fail, waiting.done, error)
            return
        for waiting, rows in zip(group, stored, strict=True):
            waiting.loop.call_soon_threadsafe(_succeed, waiting.done, rows)


def _succeed(done: asyncio.Future[list[JobRow]], rows: list[JobRow]) -> None:
    if not done.done():  # the client may have gone away
        done.set_result(rows)


def _fail(done: asyncio.Future[list[JobRow]], error: Exception) -> None:
    if not done.done():
        done.set_exception(error)
