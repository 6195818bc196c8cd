"""The one statement that changes a job's state."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from jobs.state import TERMINAL, Event, JobState, Reason, after
from orchestrator.store.schema.tables import jobs


def move(
    connection: sa.Connection,
    job_id: int,
    old: JobState,
    event: Event,
    reason: Reason,
    now: float,
    *conditions: sa.ColumnElement[bool],
    **values: Any,
) -> bool:
    """The one statement that changes a job's state. False when the job is not in `old`, or a condition fails.

    The caller writes the event. Raises Conflict on a move that is not in jobs.state.TRANSITIONS.
    """
    new = after(old, event)
    if new in TERMINAL:
        values |= {"ended_at": now}
    if new is JobState.QUEUED:
        values |= {"queued_at": now}
    update = jobs.update().where(jobs.c.id == job_id, jobs.c.state == old, *conditions)
    done = connection.execute(update.values(state=new, **reads.reason_values(reason), **values))
    return bool(done.rowcount)
