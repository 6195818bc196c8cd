"""Which jobs shared a card, how fast, and which were separated."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from orchestrator.store.engine.database import Database
from orchestrator.store.requests import Note
from orchestrator.store.rows import ProgressRow
from orchestrator.store.schema.tables import attempts, events, leases, progress


@dataclass(frozen=True)
class CardLease:
    """A card's lease, from opened to released (None: still held)."""

    attempt_id: int
    opened_at: float
    released_at: float | None


@dataclass(frozen=True)
class Window:
    """Lines of an attempt with since < ts <= until."""

    attempt_id: int
    since: float
    until: float


_MOST_WINDOWS = 1000  # in one statement


def _lines_within(windows: Sequence[Window], most: int) -> sa.Select[Any]:
    """The number of a window, and a line of it."""
    columns = (sa.column("number", sa.Integer), sa.column("attempt_id", sa.BigInteger))
    times = (sa.column("since", sa.Double), sa.column("until", sa.Double))
    rows = [(number, one.attempt_id, one.since, one.until) for number, one in enumerate(windows)]
    wanted = sa.values(*columns, *times, name="wanted").data(rows).cte("wanted")
    others = progress.alias("others")
    too_early = (  # the last line that is not among the last so many: no more lines than these are read
        sa.select(others.c.step)
        .where(others.c.attempt_id == wanted.c.attempt_id, others.c.ts <= wanted.c.until)
        .order_by(others.c.step.desc())
        .limit(1)
        .offset(most)
        .scalar_subquery()
    )
    return (
        sa.select(wanted.c.number, progress)
        .select_from(wanted.join(progress, progress.c.attempt_id == wanted.c.attempt_id))
        .where(progress.c.ts > wanted.c.since, progress.c.ts <= wanted.c.until)
        .where(progress.c.step > sa.func.coalesce(too_early, -1))
        .order_by(wanted.c.number, progress.c.step)
    )


class SharingStore(Database):
    """What sharing is judged by."""

    def leases_of(self, gpu_ids: Collection[int], since: float) -> dict[int, list[CardLease]]:
        """By card, the leases that were held at some time after `since`, oldest first."""
        query = (
            sa.select(leases.c.gpu_id, leases.c.attempt_id, attempts.c.opened_at, leases.c.released_at)
            .select_from(leases.join(attempts))
            .where(sa.or_(leases.c.released_at.is_(None), leases.c.released_at > since))
            .order_by(leases.c.attempt_id)
        )
        found: dict[int, list[CardLease]] = {}
        with self.read() as connection:
            for ids in reads.chunks(gpu_ids):
                for gpu_id, *held in connection.execute(query.where(leases.c.gpu_id.in_(ids))):
                    found.setdefault(gpu_id, []).append(CardLease(*held))
        return found

    def first_lines(self, attempt_ids: Collection[int]) -> dict[int, float]:
        """When each attempt made its first line of progress, Unix seconds; those that made none are left out."""
        others = progress.alias()
        first = (
            sa.select(sa.func.min(others.c.step))
            .where(others.c.attempt_id == attempts.c.id)
            .scalar_subquery()
        )
        query = sa.select(attempts.c.id, progress.c.ts).where(
            progress.c.attempt_id == attempts.c.id, progress.c.step == first
        )
        with self.read() as connection:
            return {
                attempt_id: ts
                for ids in reads.chunks(attempt_ids)
                for attempt_id, ts in connection.execute(query.where(attempts.c.id.in_(ids)))
            }

    def lines_within(self, windows: Sequence[Window], most: int) -> list[list[ProgressRow]]:
        """For each window the last lines of the attempt in it, at most so many, in the order of steps."""
        found: list[list[ProgressRow]] = [[] for _ in windows]
        with self.read() as connection:
            for first in range(0, len(windows), _MOST_WINDOWS):
                part = windows[first : first + _MOST_WINDOWS]
                for number, *values in connection.execute(_lines_within(part, most)):
                    found[first + number].append(ProgressRow(*values))
        return found

    def parted(self, job_ids: Collection[int]) -> set[tuple[int, int]]:
        """Pairs of a job among these and one beside which it was too slow: the first was stopped for it."""
        query = sa.select(events.c.job_id, events.c.data).where(events.c.kind == Note.STOP_REQUESTED)
        with self.read() as connection:
            return {
                (job_id, other)
                for ids in reads.chunks(job_ids)
                for job_id, data in connection.execute(query.where(events.c.job_id.in_(ids)))
                for other in data.get("apart_from", ())
            }
