"""Jobs as they are shown: with the latest of their attempts and what they wait for."""

from __future__ import annotations

import sqlalchemy as sa

import orchestrator.store.reads as reads
from orchestrator.store.jobs.dependencies import links_of
from orchestrator.store.rows import JobRow, JobView


def views_of(connection: sa.Connection, rows: list[JobRow]) -> list[JobView]:
    """The jobs with their latest attempts, progress, evaluations and links, in the order of rows."""
    tries = reads.latest_attempts(connection, [row.id for row in rows])
    lines = reads.latest_progress(connection, [attempt.id for attempt in tries.values()])
    tests = reads.latest_evaluations(connection, [attempt.id for attempt in tries.values()])
    waits = links_of(connection, [row.id for row in rows])
    return [
        JobView(
            row,
            attempt,
            lines.get(attempt.id) if attempt else None,
            tuple(waits.get(row.id, ())),
            tests.get(attempt.id) if attempt else None,
        )
        for row in rows
        for attempt in [tries.get(row.id)]
    ]
