"""What the database gives up once it is old enough: telemetry first, then the details of jobs that ended."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import sqlalchemy as sa

from jobs.state import Event
from orchestrator.store.engine.database import Database
from orchestrator.store.history.curves import EVALUATIONS, PROGRESS, keep_rows
from orchestrator.store.observations import NEWEST
from orchestrator.store.requests import Note
from orchestrator.store.schema.tables import (
    attempts,
    evaluations,
    events,
    jobs,
    log_chunks,
    observations,
    progress,
)

AT_A_TIME = 50  # attempts, each in a transaction of its own: nobody waits long
EVENTS_AT_A_TIME = 5000
LOG_GONE = "(this log was removed: the server keeps the details of ended jobs for so long, --keep-history)\n"
# Replaying these gives a job's state: they stay as long as the job does.
_STAYS = sorted({*map(str, Event), str(Note.SUBMITTED)})


class RetentionStore(Database):
    """What goes. Jobs, their attempts and what moved them stay."""

    def prune_history(self, before: float) -> bool:
        """Removes logs, and progress except for its last line, of attempts that ended before, whose curves stay
        (orchestrator.store.history.curves); events and observations that are as old. Whether there is more: it does
        some at a time.
        """
        logs = sa.select(attempts.c.id).where(
            attempts.c.ended_at < before, attempts.c.log_bytes > len(LOG_GONE)
        )
        more = self._each(logs, _drop_log)
        for table in (progress, evaluations):
            many = (
                sa.select(table.c.attempt_id)
                .join(attempts, attempts.c.id == table.c.attempt_id)
                .where(attempts.c.ended_at < before)
                .group_by(table.c.attempt_id)
                .having(sa.func.count() > 1)
            )
            more = self._each(many, partial(_drop_steps, table)) or more
        more = self._drop_events(before) or more
        with self.write() as connection:
            newest = sa.select(observations.c.ts).order_by(observations.c.ts.desc()).offset(NEWEST).limit(1)
            last = connection.execute(newest).scalar()
            if last is not None:
                old = observations.delete().where(observations.c.ts <= last, observations.c.ts < before)
                connection.execute(old)
        return more

    def _each(self, ids: sa.Select[Any], drop: Callable[[sa.Connection, int], None]) -> bool:
        with self.read() as connection:
            found = connection.execute(ids.limit(AT_A_TIME)).scalars().all()
        for attempt_id in found:
            with self.write() as connection:
                drop(connection, attempt_id)
        return len(found) == AT_A_TIME

    def _drop_events(self, before: float) -> bool:
        """Those of jobs that ended before, and of hosts and projects."""
        gone = sa.or_(events.c.job_id.is_(None), jobs.c.ended_at < before)
        old = (
            sa.select(events.c.id)
            .outerjoin(jobs, jobs.c.id == events.c.job_id)
            .where(events.c.ts < before, events.c.kind.not_in(_STAYS), gone)
            .limit(EVENTS_AT_A_TIME)
        )
        with self.write() as connection:
            return (
                connection.execute(events.delete().where(events.c.id.in_(old))).rowcount == EVENTS_AT_A_TIME
            )


def _drop_log(connection: sa.Connection, attempt_id: int) -> None:
    connection.execute(log_chunks.delete().where(log_chunks.c.attempt_id == attempt_id))
    connection.execute(log_chunks.insert().values(attempt_id=attempt_id, start_byte=0, text=LOG_GONE))
    connection.execute(
        attempts.update().where(attempts.c.id == attempt_id).values(log_bytes=len(LOG_GONE.encode()))
    )


def _drop_steps(table: sa.Table, connection: sa.Connection, attempt_id: int) -> None:
    keep_rows(connection, table, PROGRESS if table is progress else EVALUATIONS, attempt_id)
    last = sa.select(sa.func.max(table.c.step)).where(table.c.attempt_id == attempt_id).scalar_subquery()
    connection.execute(table.delete().where(table.c.attempt_id == attempt_id, table.c.step < last))
