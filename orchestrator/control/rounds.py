"""Rounds of the controller's loop: when the last good one was made and the next is due, and how one leaves the
interpreter to requests.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# A round of a large fleet takes seconds of the processor. Between two steps it waits for the requests that have been
# waiting for it, at most this many times as long as the steps since took.
GIVE_WAY = 2.0
_LOOK_EVERY_S = 0.02


class Rounds:
    """Written by the controller's thread, read by the API's. Ages are of a clock that nobody sets."""

    def __init__(self, every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """every_s: how long the loop waits for news at most."""
        self._every_s, self._clock = every_s, clock
        self._good_at = clock()
        self._rest_s = 0.0
        self.trouble = ""  # what the last round failed with, "" where it did not
        self._began: float | None = None
        self.took_s = 0.0  # the last good one
        self.count = 0  # good ones

    def begin(self) -> None:
        """A round begins."""
        self._began = self._clock()

    def good(self) -> None:
        """A whole round was made, where one was due: reports taken, planned, committed, handed over."""
        if self._began is not None:
            self.took_s, self._began = self._clock() - self._began, None
            self.count += 1
        self._good_at, self._rest_s, self.trouble = self._clock(), 0.0, ""

    def failed(self, error: Exception) -> None:
        self.trouble = f"{type(error).__name__}: {error}".splitlines()[0][:300]

    def rests(self, rest_s: float) -> None:
        """The loop leaves the processor to others for so long: that is no delay."""
        self._rest_s += rest_s

    @property
    def age_s(self) -> float:
        """Seconds since the last good one; since the start, where there was none."""
        return self._clock() - self._good_at

    @property
    def late_s(self) -> float:
        """Seconds for which one has been due; none, while none is."""
        return max(0.0, self.age_s - self._rest_s - self._every_s)


class GiveWay:
    """For the controller's thread: between two steps it lets requests go first, where they pile up."""

    def __init__(
        self, wait: Callable[[float], object], timer: Callable[[], float] = time.thread_time
    ) -> None:
        """wait: as time.sleep(); timer: CPU seconds of this thread."""
        self._wait, self._timer = wait, timer
        self._from_s = 0.0
        self.crowded: Callable[[], bool] = lambda: False  # whether requests pile up

    def begin(self) -> None:
        """A round begins."""
        self._from_s = self._timer()

    def __call__(self) -> None:
        """A step is over. Nothing may be open here that others wait for, such as a transaction."""
        left_s = GIVE_WAY * (self._timer() - self._from_s)
        while left_s > 0 and self.crowded():
            self._wait(min(left_s, _LOOK_EVERY_S))
            left_s -= _LOOK_EVERY_S
        self._from_s = self._timer()


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector, which stops every thread of the process. The rows of a large fleet would have it
    look through them several times in one round, in vain: they hold no cycles, and are gone when it ends.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
