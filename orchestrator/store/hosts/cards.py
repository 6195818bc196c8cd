"""One card: found by name, and which attempts held it."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
import orchestrator.store.unreadable as unreadable
from jobs.errors import NotFound
from orchestrator.store.engine.database import Database
from orchestrator.store.hosts.readings import CardAttempt, SampleRow
from orchestrator.store.rows import GpuRow, JobRow
from orchestrator.store.schema.tables import attempts, gpus, hosts, jobs, leases, samples

_TRIES = (
    sa.select(
        *(attempts.c.id, attempts.c.job_id, attempts.c.number, attempts.c.opened_at, attempts.c.started_at),
        *(attempts.c.ended_at, attempts.c.outcome, attempts.c.message, attempts.c.steps),
        *(attempts.c.projection, attempts.c.measured),
        *(leases.c.rank, leases.c.exclusive, leases.c.memory_bytes, leases.c.released_at),
    )
    .select_from(leases.join(attempts))
    .order_by(leases.c.attempt_id.desc())
)
_LARGEST = 2**31


class CardStore(Database):
    """One card."""

    def find_card(self, text: str) -> GpuRow:
        """The card of that id, uuid or HOST/INDEX; of several in a place, the present one. Raises NotFound."""
        host, _, index = text.rpartition("/")
        named: sa.ColumnElement[bool] = gpus.c.uuid == text
        if (number := _number(text)) is not None:
            named = named | (gpus.c.id == number)
        if host and (number := _number(index)) is not None:
            named = named | ((hosts.c.name == host) & (gpus.c.idx == number))
        with self.read() as connection:
            found = reads.gpu_rows(connection, named)
        if not found:
            raise NotFound(
                f"there is no card {text}; `tuneyard gpus` lists them: write an id, a uuid or HOST/INDEX"
            )
        return max(found, key=lambda card: (card.present, card.id))

    def latest_sample(self, gpu_id: int) -> SampleRow | None:
        """The card's newest reading."""
        query = sa.select(samples).where(samples.c.gpu_id == gpu_id).order_by(samples.c.ts.desc()).limit(1)
        with self.read() as connection:
            found = unreadable.rows(
                *(
                    "sample",
                    connection.execute(query),
                    samples,
                    lambda row: f"of card {row.gpu_id} at {row.ts}",
                ),
                lambda row: SampleRow(**row._mapping),
            )
        return found[0] if found else None

    def card_attempts(
        self, gpu_id: int, limit: int, before: int | None = None
    ) -> list[tuple[CardAttempt, JobRow]]:
        """Attempts that held the card with their jobs, the newest first, with ids below before."""
        query = _TRIES.where(leases.c.gpu_id == gpu_id).limit(limit)
        if before is not None:
            query = query.where(leases.c.attempt_id < before)
        with self.read() as connection:
            asked = connection.execute(query)
            found = unreadable.rows("attempt", asked, attempts, attrgetter("id"), _attempt)
            whose = sa.select(jobs).where(jobs.c.id.in_({row.job_id for row in found}))
            by_id = {job.id: job for job in reads.job_rows(connection, whose)}
        return [(row, by_id[row.job_id]) for row in found if row.job_id in by_id]


def _attempt(row: Any) -> CardAttempt:
    unreadable.check(row, leases)
    return CardAttempt(**row._mapping)


def _number(text: str) -> int | None:
    """A whole number that an id or an index may be."""
    return (
        int(text) if text.isascii() and text.isdigit() and len(text) < 10 and int(text) < _LARGEST else None
    )
