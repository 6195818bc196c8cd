"""Ended jobs as a simulation wants them: when they came, what they held, how long they ran."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

import orchestrator.store.unreadable as unreadable
from jobs.state import JobState
from orchestrator.store.engine.database import Database
from orchestrator.store.schema.column_types import Garbled
from orchestrator.store.schema.tables import attempts, gpus, jobs, leases

NEWEST = 20_000  # what one answer holds


@dataclass(frozen=True)
class PastJob:
    """An ended job that ran. seconds: of all its attempts together; gpus, card: of the last."""

    job_id: int
    submitted_at: float
    user: str
    project: str
    priority: int
    seconds: float
    gpus: int
    card: str


_NO_TIMES = sa.select(attempts).where(
    sa.or_(
        *(sa.func.typeof(time).in_(("text", "blob")) for time in (attempts.c.started_at, attempts.c.ended_at))
    )
)


class HistoryStore(Database):
    """What jobs came to, read only."""

    def history(self, limit: int = NEWEST) -> list[PastJob]:
        """The newest `limit` ended jobs that ran, in the order of submission. One statement."""
        ran_s = attempts.c.ended_at - attempts.c.started_at
        runs = (
            sa.select(
                attempts.c.job_id,
                sa.func.sum(sa.case((ran_s > 0, ran_s), else_=0.0)).label("seconds"),
                sa.func.max(attempts.c.id).label("last"),
            )
            .where(attempts.c.started_at.is_not(None), attempts.c.ended_at.is_not(None))
            .group_by(attempts.c.job_id)
            .subquery()
        )
        held = (
            sa.select(
                leases.c.attempt_id,
                sa.func.count().label("gpus"),
                sa.func.min(gpus.c.name).label("card"),
            )
            .select_from(leases.join(gpus))
            .group_by(leases.c.attempt_id)
            .subquery()
        )
        ended = jobs.c.state.not_in([JobState.QUEUED, JobState.RUNNING])
        newest = (
            sa.select(
                *(jobs.c.id, jobs.c.submitted_at, jobs.c.user, jobs.c.project, jobs.c.priority),
                *(runs.c.seconds, held.c.gpus, held.c.card),
            )
            .select_from(
                jobs.join(runs, runs.c.job_id == jobs.c.id).join(held, held.c.attempt_id == runs.c.last)
            )
            .where(ended, runs.c.seconds > 0)
            .order_by(jobs.c.id.desc())
            .limit(limit)
        )
        with self.read() as connection:
            if self.is_sqlite:  # which counts with what is no number, as if it were 0
                unreadable.each("attempt", connection.execute(_NO_TIMES), attrgetter("id"), _refuse)
            rows = connection.execute(newest)
            found = unreadable.rows("job", rows, jobs, attrgetter("id"), lambda row: PastJob(*row))
        return sorted(found, key=lambda past: (past.submitted_at, past.job_id))


def _refuse(row: Any) -> None:
    unreadable.check(row, attempts)
    raise Garbled("its times are no numbers")
