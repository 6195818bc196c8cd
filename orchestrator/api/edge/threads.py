"""Threads that do what they are handed, at a third of what a ThreadPoolExecutor costs: nobody asks for a result."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

log = logging.getLogger(__name__)

Work = Callable[[], None]


class Threads:
    """At most so many threads, which are started as they are needed. For one thread to hand to: the event loop."""

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._threads: list[threading.Thread] = []
        self._handed: SimpleQueue[Work | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._free = 0  # threads that nothing was handed to
        self._closed = False

    def hand(self, work: Work) -> None:
        """Have it done, the first first; what it raises is only logged. Raises RuntimeError after close()."""
        if self._closed:
            raise RuntimeError(f"the threads of {self._name} have ended")
        with self._lock:
            self._free -= 1
            new = self._free < 0 and len(self._threads) < self._most
            self._free += new  # that one takes it
        self._handed.put(work)
        if new:
            name = f"{self._name}_{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._run, name=name, daemon=True))
            self._threads[-1].start()

    def close(self) -> None:
        """What has not begun never does."""
        self._closed = True
        for _ in self._threads:
            self._handed.put(None)

    def _run(self) -> None:
        while (work := self._handed.get()) is not None and not self._closed:
            try:
                work()
            except Exception:  # the thread's outermost edge
                log.exception("a thread of %s failed", self._name)
            del work  # else what it was made of stays until the next one comes
            with self._lock:
                self._free += 1
