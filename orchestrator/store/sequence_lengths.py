"""Lengths of jobs' data in the database: wanted of a host, counted there, kept."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from jobs.messages.reports import TraceResult
from orchestrator.store.engine.database import Database
from orchestrator.store.rows import LengthsRow
from orchestrator.store.schema.tables import data_lengths

_PENDING = sa.and_(data_lengths.c.lengths.is_(None), data_lengths.c.error.is_(None))


class LengthStore(Database):
    """Lengths of data. The first answer to a request stands; an error does until it is asked again."""

    def want_lengths(self, key: str, spec: dict[str, Any], host_id: int, now: float, retry_s: float) -> None:
        """Asks a host to count, once; again where the host went away, or the error is over retry_s seconds old.

        A fault of the input is looked for again whenever it is asked for: it may have been corrected.
        """
        asked = {"host_id": host_id, "requested_at": now, "spec": spec}
        insert = self.upsert(data_lengths).values(key=key, **asked)
        over = sa.or_(data_lengths.c.ended_at <= now - retry_s, data_lengths.c.bad_input)
        old = sa.and_(data_lengths.c.error.is_not(None), over)
        free = sa.and_(_PENDING, data_lengths.c.host_id.is_(None))
        again = data_lengths.update().where(data_lengths.c.key == key, sa.or_(old, free))
        with self.write() as connection:
            connection.execute(insert.on_conflict_do_nothing())
            connection.execute(
                again.values(error=None, bad_input=False, missing=False, ended_at=None, **asked)
            )

    def lengths(self, keys: Collection[str]) -> dict[str, LengthsRow]:
        """Those of the lengths that were ever asked for."""
        ordered = sorted(keys)
        found: list[LengthsRow] = []
        with self.read() as connection:
            for start in range(0, len(ordered), reads.CHUNK):
                found += _rows(connection, data_lengths.c.key.in_(ordered[start : start + reads.CHUNK]))
        return {row.key: row for row in found}

    def pending_lengths(self, host_ids: Collection[int]) -> list[LengthsRow]:
        """What these hosts are to count. Oldest first."""
        with self.read() as connection:
            return _rows(connection, _PENDING, data_lengths.c.host_id.in_(host_ids))

    def counting_hosts(self) -> set[int]:
        """The hosts that are to count something."""
        query = (
            sa.select(data_lengths.c.host_id).where(_PENDING, data_lengths.c.host_id.is_not(None)).distinct()
        )
        with self.read() as connection:
            return set(connection.execute(query).scalars())

    def release_lengths(self, host_id: int) -> int:
        """Takes from a host that went away what it was to count. Returns how many those were."""
        theirs = sa.and_(_PENDING, data_lengths.c.host_id == host_id)
        with self.write() as connection:
            return connection.execute(data_lengths.update().where(theirs).values(host_id=None)).rowcount


def answer_lengths(connection: sa.Connection, result: TraceResult, now: float) -> bool:
    """Keeps what a count came to, if that is still asked for."""
    error = result.data_error if result.lengths is None else None
    if result.lengths is None and not error:
        error = "the host gave neither lengths nor a reason"
    update = data_lengths.update().where(data_lengths.c.key == result.data_key, _PENDING)
    at_fault = {"bad_input": False, "missing": False}
    if error is not None:
        at_fault = {"bad_input": result.data_bad_input, "missing": result.data_missing}
    values = {"lengths": result.lengths, "error": error, "ended_at": now, **at_fault}
    return bool(connection.execute(update.values(values)).rowcount)


def _rows(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[LengthsRow]:
    order = (data_lengths.c.requested_at, data_lengths.c.key)
    query = sa.select(data_lengths).where(*conditions).order_by(*order)
    return [LengthsRow(**row._mapping) for row in connection.execute(query)]
