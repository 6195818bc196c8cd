"""What people asked for: cancels, drains, changes, with who asked and from where."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
import orchestrator.store.unreadable as unreadable
from orchestrator.store.engine.database import Database
from orchestrator.store.requests import Note
from orchestrator.store.rows import ActionRow, EventRow
from orchestrator.store.schema.tables import attempts, events, hosts, jobs


class ActionStore(Database):
    """Events that somebody asked for, and those of the server itself."""

    def note_quarantined(
        self, kind: str, key: int | str, text: str, traceback: str, now: float, job_id: int | None = None
    ) -> None:
        """A record that can't be handled is left alone from now on. job_id: whose events tell of it."""
        with self.write() as connection:
            known = (
                job_id is not None
                and connection.execute(sa.select(jobs.c.id).where(jobs.c.id == job_id)).first()
            )
            data = {"kind": kind, "key": key, "traceback": traceback}
            reads.note(connection, now, Note.QUARANTINED, text, job_id=job_id if known else None, data=data)

    def actions(self, limit: int = 50, before: int | None = None) -> list[ActionRow]:
        """The newest first, with ids below before."""
        query = (
            sa.select(
                events,
                attempts.c.number.label("attempt"),
                jobs.c.name.label("job"),
                hosts.c.name.label("host"),
            )
            .select_from(
                events.outerjoin(attempts, attempts.c.id == events.c.attempt_id)
                .outerjoin(jobs, jobs.c.id == events.c.job_id)
                .outerjoin(hosts, hosts.c.id == events.c.host_id)
            )
            .where(events.c.actor.is_not(None))
            .order_by(events.c.id.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(events.c.id < before)
        with self.read() as connection:
            return unreadable.rows("event", connection.execute(query), events, attrgetter("id"), _action)


def _action(row: Any) -> ActionRow:
    told = dict(row._mapping)
    job, host, event = told.pop("job"), told.pop("host"), EventRow(**told)
    if event.job_id is not None:
        subject = f"job {event.job_id}" + (f" ({job})" if job else "")
    elif event.host_id is not None:
        subject = f"host {host}"
    else:
        subject = f"project {event.data.get('name', '')}"
    return ActionRow(event, subject)
