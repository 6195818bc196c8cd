"""Jobs that are steps: what follows another job's training."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

import orchestrator.store.reads as reads
from orchestrator.store.engine.database import Database
from orchestrator.store.requests import NewJob
from orchestrator.store.rows import JobRow
from orchestrator.store.schema.tables import jobs


class StepStore(Database):
    """Steps."""

    def steps_of(self, job_ids: Collection[int]) -> dict[int, list[JobRow]]:
        """By job, the steps that follow its training, in the order of their ids; of a step submitted again, both."""
        found: dict[int, list[JobRow]] = {}
        with self.read() as connection:
            for ids in reads.chunks(job_ids):
                query = sa.select(jobs).where(jobs.c.step_of.in_(ids)).order_by(jobs.c.id)
                for row in reads.job_rows(connection, query):
                    found.setdefault(row.step_of or 0, []).append(row)
        return found


def steps_of(submissions: Sequence[Sequence[NewJob]], ids: Sequence[int]) -> list[int | None]:
    """For each job the id of the one whose training it follows."""
    found: list[int | None] = []
    for submission in submissions:
        first = len(found)
        for job in submission:
            other = job.step_of
            found.append(None if other is None else ids[first + other.job] if other.here else other.job)
    return found
