"""Tells of jobs that wait for long, once each time that they are queued (serve --waiting-after)."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.state import Code
from jobs.units import span
from orchestrator.store import Store
from orchestrator.store.rows import JobRow

LOOK_EVERY_S = 30.0
AT_ONCE = 50  # of a queue that has waited all at once: the rest in the next looks
# Somebody wants these to wait.
_MEANT = (Code.HELD, Code.AFTER)


class LongWaits:
    """Looks now and then."""

    def __init__(self, store: Store, after_s: float | None) -> None:
        self._store, self._after_s = store, after_s
        self._look_at = 0.0

    def tell(self, queued: Sequence[JobRow], now: float) -> None:
        """queued: in starting order."""
        if self._after_s is None or now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        found = waiting(queued, now, self._after_s)
        known = self._store.waits_told([job.id for job in found])
        late = [job for job in found if known.get(job.id, 0.0) < job.queued_at]
        texts = {
            job.id: f"has waited for {span(now - job.queued_at)}: {job.reason.text}" for job in late[:AT_ONCE]
        }
        self._store.note_waits(texts, now)


def waiting(queued: Sequence[JobRow], now: float, after_s: float) -> list[JobRow]:
    """Those that have waited so long, and not because somebody wants it."""
    return [
        job
        for job in queued
        if now - job.queued_at >= after_s and job.held_at is None and job.reason.code not in _MEANT
    ]
