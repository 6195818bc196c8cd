"""Ends attempts that hold their cards and do nothing with them, where the operator wants that (serve --idle-after)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from jobs.state import Code, Reason
from jobs.units import span
from orchestrator.store import Store
from orchestrator.store.history.idle import Activity
from orchestrator.store.rows import AttemptRow, FleetRows

log = logging.getLogger(__name__)

LOOK_EVERY_S = 60.0  # history is by the minute
# Of the minutes that are looked at, so many must be known: a card that nobody read is not idle.
KNOWN_SHARE = 0.9
STALE_S = 180.0  # nothing is said of a card whose newest minute is older


class IdleAttempts:
    """Looks now and then."""

    def __init__(self, store: Store, after_s: float | None) -> None:
        self._store, self._after_s = store, after_s
        self._look_at = 0.0

    def end(self, rows: FleetRows, now: float) -> None:
        """Ask those jobs to end that are idle."""
        if self._after_s is None or now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        leaving = {job.id for job in rows.running if job.cancel_requested_at is not None}
        open_ = [one for one in rows.attempts if one.job_id not in leaving and one.stop_requested_at is None]
        seen = self._store.activity({gpu.id for one in open_ for gpu in one.gpus}, now - self._after_s, now)
        for attempt, reason in idle(open_, seen, now, self._after_s):
            self._store.request_cancel(attempt.job_id, now, reason)
            self._store.request_stop(attempt.id, "cancelled", now, reason)
            log.info("job %s %s", attempt.job_id, reason.text)


def idle(
    attempts: Sequence[AttemptRow], seen: Mapping[int, Activity], now: float, after_s: float
) -> list[tuple[AttemptRow, Reason]]:
    """The attempts to end, with why. seen: of cards by id, in the last after_s seconds.

    All cards of an attempt must have been idle, each minute of that time. CPU cards are left out: one thread of many is
    little, and may be all that a job needs.
    """
    found = []
    for attempt in attempts:
        cards = [seen.get(gpu.id) for gpu in attempt.gpus]
        if any(gpu.kind == "cpu" for gpu in attempt.gpus) or now - attempt.opened_at < after_s + STALE_S:
            continue
        if cards and all(one is not None and _did_nothing(one, now, after_s) for one in cards):
            text = (
                f"stopped: it held {_cards(len(cards))} for {span(after_s)} without using "
                f"{'it' if len(cards) == 1 else 'them'} (serve --idle-after)"
            )
            found.append((attempt, Reason(Code.IDLE, text, {"idle_after_s": after_s})))
    return found


def _did_nothing(one: Activity, now: float, after_s: float) -> bool:
    minutes = after_s / 60 - 1
    return one.busy == 0 and one.minutes >= KNOWN_SHARE * minutes and now - one.newest <= STALE_S


def _cards(count: int) -> str:
    return "its card" if count == 1 else f"its {count} cards"
