"""When the controller's loop made its last good round, and when the next one is due."""

from __future__ import annotations

import time
from collections.abc import Callable


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
