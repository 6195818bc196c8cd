"""The newest state of the fleet, read anew only once the last one is old enough, however many ask."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from jobs.errors import TuneyardError
from orchestrator.api.live.columns import State

APART_S = 1.0
# Reading takes no more than this share of a core: the larger the fleet, the longer a state is good for. By the time
# that the reading thread computes, for on a busy machine it waits for a core, and what it asks of nobody costs nobody.
SHARE = 0.12


class Window:
    """For any number of threads. apart_s: how long a state is good for at least; read: reads it, set by the
    application; worked_s: how long the thread that asks has computed.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        worked_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self.read: Callable[[], State] = dict
        self.apart_s = APART_S
        self._clock, self._worked_s = clock, worked_s
        self._lock = threading.Lock()
        self._state: State | TuneyardError | None = None
        self._until = 0.0

    def look(self) -> State:
        """The state. Raises what reading it raised last, for as long as a state would be good for."""
        with self._lock:
            if self._state is None or self._clock() >= self._until:
                began, worked_s = self._clock(), self._worked_s()
                try:
                    self._state = self.read()
                except TuneyardError as error:
                    self._state = error
                ended, worked_s = self._clock(), self._worked_s() - worked_s
                good_s = max(self.apart_s, worked_s / SHARE)
                # Of a database that is slow no more than three quarters of the time is asked. With nothing to wait for
                # in tests, each look reads.
                self._until = max(began + good_s, ended + (ended - began) / 3) if self.apart_s else 0.0
            if isinstance(self._state, TuneyardError):
                raise self._state
            return self._state

    @property
    def wait_s(self) -> float:
        """How long until the next state may be read."""
        return max(0.0, self._until - self._clock())
