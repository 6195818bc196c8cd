"""Memory traces that the server asks for: one child process at a time, beside the agent's loop."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

import psutil

from jobs.messages.reports import TraceRequest, TraceResult

log = logging.getLogger(__name__)

TIMEOUT_S = 600.0


def trace_memory_bytes() -> int:
    """What a trace may take: half of the memory that is free; trainers may be about to want the rest."""
    return psutil.virtual_memory().available // 2


class Tracer:
    """Takes orders, keeps results until they are acknowledged. One thread: a trace takes all it gets."""

    def __init__(self, trace: Callable[[TraceRequest], TraceResult], done: Callable[[], None]) -> None:
        """trace: runs one, for as long as that takes; done: called from the thread after each."""
        self._trace = trace
        self._done = done
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[TraceRequest] = queue.SimpleQueue()
        self._taken: set[str] = set()  # keys that wait or run
        self._results: list[TraceResult] = []
        threading.Thread(target=self._run, name="tracer", daemon=True).start()

    def order(self, requests: list[TraceRequest]) -> None:
        """Trace what is neither under way nor done."""
        with self._lock:
            for request in requests:
                known = self._taken.union(*(result.keys for result in self._results))
                if new := set(request.keys) - known:
                    self._taken |= new
                    self._waiting.put(request.only(new))

    def results(self) -> list[TraceResult]:
        with self._lock:
            return list(self._results)

    def acknowledge(self, sent: list[TraceResult], still_wanted: set[str]) -> None:
        """The server took these results; those it still asks for it has not stored, so they go again."""
        with self._lock:
            self._results = [
                result
                for result in self._results
                if result not in sent or still_wanted.intersection(result.keys)
            ]

    def _run(self) -> None:
        while True:
            request = self._waiting.get()
            try:
                result = self._trace(request)
            except Exception as error:  # this thread's outermost edge: the next trace must still find it
                log.exception("the trace of %s failed", request.keys)
                result = request.failed(f"the trace failed: {type(error).__name__}: {error}")
            with self._lock:
                self._taken -= set(request.keys)
                self._results.append(result)
            self._done()
