"""Jobs that share cards, in the record: parts those that slow each other down, and keeps them apart from then on."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

from orchestrator.control.sharing.interference import Sharer, apart, last_alone, parting, sharer, step_s
from orchestrator.scheduler.fleet import PendingJob
from orchestrator.scheduler.policy import Rules
from orchestrator.store import Store
from orchestrator.store.attempts.colocation import Window
from orchestrator.store.rows import AttemptRow, FleetRows

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
LINES = 30  # that a pace is taken from: half a minute, where steps are short


class Neighbours:
    """Keeps for a while what a pace alone was: that is over and no longer changes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._looked_at = -math.inf
        self._alone: dict[Window, float | None] = {}

    def part(self, rows: FleetRows, rules: Rules, now: float) -> None:
        """Ask the job that came last to stop, on each card where jobs slow each other down beyond the rules."""
        if now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        attempts = {attempt.id: attempt for attempt in rows.attempts}
        cards: dict[int, list[AttemptRow]] = {}
        for card in rows.gpus:
            on_it = [attempts[one.attempt_id] for one in card.holders if one.attempt_id in attempts]
            if len(on_it) >= 2 and card.shared and all(one.stop_requested_at is None for one in on_it):
                cards[card.id] = on_it
        asked: set[int] = set()
        for sharers in self._sharers(cards):
            found = parting(sharers, rules)
            if found is None or found[0].attempt_id in asked:
                continue
            last, reason = found
            asked.add(last.attempt_id)
            if self._store.request_stop(last.attempt_id, "preempted", now, reason):
                log.info("job %s %s", last.job_id, reason.text)

    def _sharers(self, cards: Mapping[int, Sequence[AttemptRow]]) -> list[list[Sharer]]:
        """The attempts on each card with their paces, except cards where one has not made its first step yet.

        Three queries, however many cards there are.
        """
        began = (
            self._store.first_lines({one.id for on_it in cards.values() for one in on_it}) if cards else {}
        )
        cards = {gpu_id: on_it for gpu_id, on_it in cards.items() if all(one.id in began for one in on_it)}
        if not cards:
            self._alone = {}
            return []
        oldest = min(one.opened_at for on_it in cards.values() for one in on_it)
        leases = self._store.leases_of(cards, oldest)
        beside: dict[tuple[int, int], Window] = {}
        alone: dict[tuple[int, int], Window] = {}
        for gpu_id, on_it in cards.items():
            since = max(began[one.id] for one in on_it)
            first = min(one.opened_at for one in on_it)
            held = [one for one in leases[gpu_id] if one.released_at is None or one.released_at > first]
            for attempt in on_it:
                at = (gpu_id, attempt.id)
                beside[at] = Window(attempt.id, since, math.inf)
                others = [(one.opened_at, one.released_at) for one in held if one.attempt_id != attempt.id]
                if (window := last_alone(began[attempt.id], since, others)) is not None:
                    alone[at] = Window(attempt.id, *window)
        new = [window for window in alone.values() if window not in self._alone]
        lines = self._store.lines_within([*beside.values(), *new], LINES)
        paces = dict(zip(beside, map(step_s, lines), strict=False))
        known = self._alone | dict(zip(new, map(step_s, lines[len(beside) :]), strict=True))
        self._alone = {window: known[window] for window in alone.values()}
        return [
            [
                sharer(one, self._alone[alone[at]] if at in alone else None, paces[at])
                for one in on_it
                if (at := (gpu_id, one.id))
            ]
            for gpu_id, on_it in cards.items()
        ]

    def apart(self, queue: Sequence[PendingJob], rows: FleetRows) -> Mapping[int, frozenset[int]]:
        """By job, those that it must not share a card with."""
        begun = {job.id for job in rows.queued if job.started_at is not None}
        shared = {job.job_id for job in queue if job.spec.resources.share and job.job_id in begun}
        shared |= {attempt.job_id for attempt in rows.attempts if attempt.shared}
        return apart(self._store.parted(shared)) if shared else {}
