"""Memory profiles in the database: wanted, traced on a host, kept."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from jobs.messages.reports import TraceResult
from orchestrator.store.engine.database import Database
from orchestrator.store.rows import ProfileRow
from orchestrator.store.schema.tables import profiles

_PENDING = sa.and_(profiles.c.profile.is_(None), profiles.c.error.is_(None))


class ProfileStore(Database):
    """Memory profiles. The first answer to a request stands."""

    def want_profile(self, key: str, spec: dict[str, Any], now: float, retry_s: float = 300.0) -> ProfileRow:
        """Asks for a profile, once; again where the answer was an error, over retry_s seconds ago."""
        insert = self.upsert(profiles).values(key=key, spec=spec, bad_input=False, requested_at=now)
        old = sa.and_(profiles.c.error.is_not(None), profiles.c.ended_at <= now - retry_s)
        again: dict[str, Any] = {"error": None, "bad_input": False}
        again |= {"host_id": None, "assigned_at": None, "ended_at": None, "requested_at": now}
        with self.write() as connection:
            connection.execute(insert.on_conflict_do_nothing())
            connection.execute(profiles.update().where(profiles.c.key == key, old).values(again))
            return _rows(connection, profiles.c.key == key)[0]

    def assign_profile(self, key: str, host_id: int, now: float) -> bool:
        """Gives a wanted profile to a host to trace. False when another has it, or it is done."""
        update = profiles.update().where(profiles.c.key == key, profiles.c.host_id.is_(None), _PENDING)
        with self.write() as connection:
            return bool(connection.execute(update.values(host_id=host_id, assigned_at=now)).rowcount)

    def put_profile(self, key: str, profile: dict[str, Any], now: float) -> bool:
        """Keeps a traced profile. False when it was answered before, or never asked for."""
        with self.write() as connection:
            return answer(connection, TraceResult(key=key, profile=profile), now)

    def profiles(self, keys: Collection[str]) -> dict[str, ProfileRow]:
        """Those of the profiles that were ever asked for."""
        ordered = sorted(keys)
        found: list[ProfileRow] = []
        with self.read() as connection:
            for start in range(0, len(ordered), reads.CHUNK):
                found += _rows(connection, profiles.c.key.in_(ordered[start : start + reads.CHUNK]))
        return {row.key: row for row in found}

    def pending_profiles(self, host_ids: Collection[int] | None = None) -> list[ProfileRow]:
        """Profiles without an answer: all, or those that these hosts are to trace. Oldest first."""
        here = [] if host_ids is None else [profiles.c.host_id.in_(host_ids)]
        with self.read() as connection:
            return _rows(connection, _PENDING, *here)

    def tracing_hosts(self) -> set[int]:
        """The hosts that are to trace something."""
        query = sa.select(profiles.c.host_id).where(_PENDING, profiles.c.host_id.is_not(None)).distinct()
        with self.read() as connection:
            return set(connection.execute(query).scalars())

    def release_profiles(self, host_id: int) -> int:
        """Takes from a host that went away what it was to trace. Returns how many those were."""
        theirs = sa.and_(_PENDING, profiles.c.host_id == host_id)
        with self.write() as connection:
            update = profiles.update().where(theirs).values(host_id=None, assigned_at=None)
            return connection.execute(update).rowcount


def answer(connection: sa.Connection, result: TraceResult, now: float) -> bool:
    """Keeps what a trace came to, if that is still asked for."""
    error = result.error if result.profile is None else None
    if result.profile is None and not error:
        error = "the host gave neither a profile nor a reason"
    values = {"profile": result.profile, "error": error, "bad_input": result.bad_input, "ended_at": now}
    update = profiles.update().where(profiles.c.key == result.key, _PENDING)
    return bool(connection.execute(update.values(values)).rowcount)


def _rows(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[ProfileRow]:
    query = sa.select(profiles).where(*conditions).order_by(profiles.c.requested_at, profiles.c.key)
    return [ProfileRow(**row._mapping) for row in connection.execute(query)]
