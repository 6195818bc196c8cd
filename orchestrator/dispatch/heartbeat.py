"""What a process that must not hang says of itself: a heartbeat, for as long as each piece of its work keeps its time.

A thread that only says that the process is there says nothing: the call that hangs is in another one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

BEAT_S = 1.0
# What passes between two looks counts as no more: a process that was stopped, or whose machine was, saw none of it.
LONGEST_LOOK_S = 2.0


class Awake:
    """Seconds that this process was awake, as far as it looked."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_at = clock()
        self._passed_s = 0.0

    def look(self) -> float:
        """Seconds so far."""
        with self._lock:
            now = self._clock()
            self._passed_s += min(LONGEST_LOOK_S, max(0.0, now - self._looked_at))
            self._looked_at = now
            return self._passed_s


@dataclass(frozen=True)
class Overdue:
    """A piece of work that did not keep its time."""

    doing: str
    for_s: float


class Work:
    """What a process does now, each piece with the time that it may take. look() is called once a second."""

    def __init__(self, awake: Awake | None = None) -> None:
        self._awake = awake or Awake()
        self._lock = threading.Lock()
        self._open: dict[int, tuple[str, float, float]] = {}  # what, since when, until when
        self._next = 0

    @contextmanager
    def doing(self, what: str, limit_s: float) -> Iterator[None]:
        """what: in words that follow "is"; limit_s: after which it counts as hung."""
        began = self._awake.look()
        with self._lock:
            key, self._next = self._next, self._next + 1
            self._open[key] = (what, began, began + limit_s)
        try:
            yield
        finally:
            with self._lock:
                del self._open[key]

    def look(self) -> Overdue | None:
        """The piece that is overdue longest, None while all keep their time."""
        now = self._awake.look()
        with self._lock:
            late = [(until, what, began) for what, began, until in self._open.values() if now > until]
        if not late:
            return None
        _, what, began = min(late)
        return Overdue(what, now - began)
