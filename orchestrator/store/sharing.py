"""Who lay on a card beside whom, how fast, and who was parted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

import orchestrator.store.reads as reads
from orchestrator.store.database import Database
from orchestrator.store.rows import Note, ProgressRow
from orchestrator.tables import attempts, events, leases, progress


@dataclass(frozen=True)
class CardLease:
    """A card's lease, from opened to released (None: still held)."""

    attempt_id: int
    opened_at: float
    released_at: float | None


class SharingStore(Database):
    """What sharing is judged by."""

    def leases_of(self, gpu_id: int, since: float) -> list[CardLease]:
        """A card's leases that were held at some time after `since`, oldest first."""
        query = (
            sa.select(leases.c.attempt_id, attempts.c.opened_at, leases.c.released_at)
            .select_from(leases.join(attempts))
            .where(leases.c.gpu_id == gpu_id)
            .where(sa.or_(leases.c.released_at.is_(None), leases.c.released_at > since))
            .order_by(leases.c.attempt_id)
        )
        with self.read() as connection:
            return [CardLease(*row) for row in connection.execute(query)]

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

    def lines_between(self, attempt_id: int, since: float, until: float, most: int) -> list[ProgressRow]:
        """The last lines of an attempt with since < ts <= until, in the order of steps."""
        query = (
            sa.select(progress)
            .where(progress.c.attempt_id == attempt_id, progress.c.ts > since, progress.c.ts <= until)
            .order_by(progress.c.step.desc())
            .limit(most)
        )
        with self.read() as connection:
            found = [ProgressRow(**row._mapping) for row in connection.execute(query)]
        return found[::-1]

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
