"""Likely starts of queued jobs: worked out again when the queue changed, as far as that costs little."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from jobs.state import Code
from orchestrator.scheduler.cache.scheduler_cache import PlanInput
from orchestrator.scheduler.plan import Plan
from orchestrator.whatif import start_times

EVERY_S = 10.0  # ends move as jobs go on, though nothing happens
REST = 19.0  # times the CPU time of the last: a twentieth of it at the most
_FOR_CARDS = frozenset({Code.BUSY, Code.BEHIND, Code.RESERVED, Code.ROOM, Code.BACKOFF, Code.STORAGE})


class Likely:
    """Holds no truth. starts: by job; timer: CPU seconds of this thread."""

    def __init__(self, timer: Callable[[], float] = time.thread_time) -> None:
        self.starts: Mapping[int, start_times.StartInterval] = {}
        self._timer = timer
        self._at, self._cost_s = -math.inf, 0.0
        self._of: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())

    def look(self, decided: Plan, now: float, given: Callable[[], PlanInput]) -> None:
        """Work them out where it is time to. given: what the plan was made from."""
        waiting = frozenset(job for job, reason in decided.waits.items() if reason.code in _FOR_CARDS)
        of = (waiting, frozenset(decided.stops))
        pause_s = EVERY_S if of == self._of else REST * self._cost_s
        if waiting and now - self._at < pause_s:
            return
        began = self._timer()
        self.starts = start_times.starts(given(), decided) if waiting else {}
        self._at, self._of, self._cost_s = now, of, self._timer() - began
