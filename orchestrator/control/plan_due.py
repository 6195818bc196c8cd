"""When the next plan is due though nobody of this process asked for one."""

from __future__ import annotations

import math

from orchestrator.scheduler.fleet import Fleet
from orchestrator.store import Store


class PlanDue:
    """After a while; as soon as a job's back-off is over; and when another server stored what people asked of it.

    That other one stands by, and can't wake the controller of the one that leads. Each wish is an event in the
    database.
    """

    def __init__(self, store: Store, every_s: float) -> None:
        self._store, self._every_s = store, every_s
        self._planned_s = -math.inf
        self._before = self._event = 0  # the newest event when the last plan began, and that it was made with
        self._over_at = math.inf

    def now(self, steady_s: float, now: float) -> bool:
        """steady_s: by a clock that never jumps; now: by the one that back-offs are kept in. Raises Unavailable."""
        if steady_s - self._planned_s >= self._every_s or now >= self._over_at:
            return True
        return self._store.newest_event() > self._event

    def begin(self) -> None:
        """A plan is about to be made. Raises Unavailable."""
        self._before = self._store.newest_event()

    def planned(self, steady_s: float, fleet: Fleet | None, now: float) -> None:
        """A plan was made, begun at steady_s. What it wrote itself is no news, unlike what was asked for since begin():
        the plan may not have seen that. fleet: that it was made from. Raises Unavailable.
        """
        waits = () if fleet is None else (job.not_before for job in fleet.queue if job.not_before > now)
        self._planned_s, self._over_at = steady_s, min(waits, default=math.inf)
        asked = self._store.asked_since(self._before)
        self._event = self._before if asked else self._store.newest_event()
