"""Jobs that share cards, in the record: parts those that slow each other down, and keeps them apart from then on."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.fleet import Waiting
from orchestrator.order import Rules
from orchestrator.sharing import Sharer, apart, last_alone, parting, sharer, step_s
from orchestrator.store import Store
from orchestrator.store.rows import AttemptRow, FleetRows

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
LINES = 30  # that a pace is taken from: half a minute, where steps are short


class Neighbours:
    """Holds no truth, but for a while what a pace alone was: it is over and changes no more."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._looked_at = -math.inf
        self._alone: dict[tuple[int, float], float | None] = {}

    def part(self, rows: FleetRows, rules: Rules, now: float) -> None:
        """Ask the job that came last to stop, on each card where jobs slow each other down beyond the rules."""
        if now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        attempts = {attempt.id: attempt for attempt in rows.attempts}
        kept: dict[tuple[int, float], float | None] = {}
        asked: set[int] = set()
        for card in rows.gpus:
            on_it = [attempts[one.attempt_id] for one in card.holders if one.attempt_id in attempts]
            if len(on_it) < 2 or not card.shared or any(one.stop_requested_at is not None for one in on_it):
                continue
            found = parting(self._sharers(card.id, on_it, kept), rules)
            if found is None or found[0].attempt_id in asked:
                continue
            last, reason = found
            asked.add(last.attempt_id)
            if self._store.request_stop(last.attempt_id, "preempted", now, reason):
                log.info("job %s %s", last.job_id, reason.text)
        self._alone = kept

    def _sharers(
        self, gpu_id: int, on_it: Sequence[AttemptRow], kept: dict[tuple[int, float], float | None]
    ) -> list[Sharer]:
        """The attempts on a card with their paces; none while one has not made its first step yet."""
        began = self._store.first_lines([one.id for one in on_it])
        if len(began) < len(on_it):
            return []
        since = max(began.values())
        leases = self._store.leases_of(gpu_id, min(one.opened_at for one in on_it))
        found = []
        for attempt in on_it:
            others = [(held.opened_at, held.released_at) for held in leases if held.attempt_id != attempt.id]
            window = last_alone(began[attempt.id], since, others)
            alone_s = None
            if window is not None:
                key = (attempt.id, window[1])
                if key not in self._alone:
                    self._alone[key] = step_s(self._store.lines_between(attempt.id, *window, LINES))
                alone_s = kept[key] = self._alone[key]
            beside_s = step_s(self._store.lines_between(attempt.id, since, math.inf, LINES))
            found.append(sharer(attempt, alone_s, beside_s))
        return found

    def filled(self, queue: Sequence[Waiting], rows: FleetRows) -> list[Waiting]:
        """The jobs, each with those that it must not lie beside."""
        begun = {job.id for job in rows.queued if job.started_at is not None}
        shared = {job.job_id for job in queue if job.spec.resources.share and job.job_id in begun}
        shared |= {attempt.job_id for attempt in rows.attempts if attempt.shared}
        known = apart(self._store.parted(shared)) if shared else {}
        return [replace(job, apart=known[job.job_id]) if job.job_id in known else job for job in queue]
