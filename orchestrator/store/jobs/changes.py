"""Changes to the job file of a job that has not ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orchestrator.store.reads as reads
from jobs.errors import Conflict
from jobs.jobfile.changes import Difference
from jobs.state import Code, JobState, Reason
from orchestrator.store.engine.database import Database
from orchestrator.store.requests import Actor, Note
from orchestrator.store.rows import JobRow
from orchestrator.store.schema.column_types import clean_text, quick_json
from orchestrator.store.schema.tables import jobs

_CHANGED = Reason(Code.NEW, "changed; waits for the scheduler's next look")


@dataclass(frozen=True)
class Change:
    """A job's new job file, and what differs from the old one."""

    name: str
    spec: Mapping[str, Any]
    priority: int
    project: str
    differences: tuple[Difference, ...] = ()


class ChangeStore(Database):
    """Changes of jobs."""

    def change_job(self, was: JobRow, change: Change, now: float, actor: Actor) -> JobRow:
        """Gives a job another job file, if it is as `was` says still: same state, same revision.

        Raises Conflict where it moved on meanwhile: nothing is changed then.
        """
        mine = jobs.update().where(
            jobs.c.id == was.id,
            jobs.c.state == was.state,
            jobs.c.revision == was.revision,
            jobs.c.cancel_requested_at.is_(None),
        )
        values: dict[str, Any] = {
            "name": clean_text(change.name),
            "spec": quick_json(dict(change.spec)),
            "priority": change.priority,
            "project": clean_text(change.project),
            "revision": was.revision + 1,
        }
        if was.state is JobState.QUEUED and was.held_at is None:
            values |= reads.reason_values(_CHANGED)
        with self.write() as connection:
            done = connection.execute(mine.values(**values)).rowcount
            row = reads.one_job(connection, was.id)
            if done:
                reads.note(
                    connection,
                    now,
                    Note.CHANGED,
                    clean_text(", ".join(map(str, change.differences))),
                    job_id=was.id,
                    data={
                        "before": {one.path: one.before for one in change.differences if one.kept},
                        "after": {one.path: one.after for one in change.differences if one.given},
                    },
                    actor=actor,
                )
        if not done:
            raise Conflict(f"job {was.id} moved on meanwhile: it is {row.state} now. Nothing was changed")
        return row
