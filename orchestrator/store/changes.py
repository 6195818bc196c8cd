"""Changes to the job file of a job that has not ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orchestrator.store.reads as reads
from jobs.errors import Conflict
from jobs.state import Code, JobState, Reason
from orchestrator.column_types import clean_text, quick_json
from orchestrator.store.database import Database
from orchestrator.store.requests import Actor, Note
from orchestrator.store.rows import JobRow
from orchestrator.tables import jobs

_CHANGED = Reason(Code.NEW, "changed; waits for the scheduler's next look")


@dataclass(frozen=True)
class Change:
    """A job's new job file, and what differs: by dotted key, before and after."""

    name: str
    spec: Mapping[str, Any]
    priority: int
    project: str
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)


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
        if was.state is JobState.QUEUED:
            values["trace_key"] = None
        with self.write() as connection:
            done = connection.execute(mine.values(**values)).rowcount
            row = reads.one_job(connection, was.id)
            if done:
                text = ", ".join(
                    f"{key} {_said(change.before.get(key))} -> {_said(given)}"
                    for key, given in change.after.items()
                )
                data = {"before": dict(change.before), "after": dict(change.after)}
                reads.note(connection, now, Note.CHANGED, text, job_id=was.id, data=data, actor=actor)
        if not done:
            raise Conflict(f"job {was.id} moved on meanwhile: it is {row.state} now. Nothing was changed")
        return row


def _said(value: Any) -> str:
    if value is None:
        return "(default)"
    return value if isinstance(value, str) else quick_json(value)
