"""What happened, to which job or host, and who asked for it from where."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
import orchestrator.store.unreadable as unreadable
from jobs.state import Event, JobState
from orchestrator.store.engine.database import Database
from orchestrator.store.requests import Note
from orchestrator.store.rows import ActionRow, EventRow
from orchestrator.store.schema.column_types import Garbled
from orchestrator.store.schema.tables import attempts, events, gpus, hosts, jobs

OUT_OF_ORDER_S = 3600.0  # an event's time is the server's, or that of a host that was away
_THERE = hosts.alias("there")
_LINES = sa.select(
    events,
    attempts.c.number.label("attempt"),
    jobs.c.name.label("job"),
    hosts.c.name.label("host"),
    _THERE.c.name.label("there"),
    gpus.c.idx.label("card"),
).select_from(
    events.outerjoin(attempts, attempts.c.id == events.c.attempt_id)
    .outerjoin(jobs, jobs.c.id == events.c.job_id)
    .outerjoin(hosts, hosts.c.id == events.c.host_id)
    .outerjoin(gpus, gpus.c.id == events.c.gpu_id)
    .outerjoin(_THERE, _THERE.c.id == attempts.c.host_id)
)


@dataclass(frozen=True)
class WantedEvents:
    """Which events. since: Unix seconds; job, host, card: ids; by: who asked; before, after: ids of events."""

    since: float | None = None
    job: int | None = None
    host: int | None = None
    card: int | None = None
    by: str | None = None
    kinds: Collection[str] = ()
    before: int | None = None
    after: int | None = None


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
        """What somebody asked for: the newest first, with ids below before."""
        query = _LINES.where(events.c.actor.is_not(None)).order_by(events.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(events.c.id < before)
        with self.read() as connection:
            return _rows(connection, query)

    def events_of(self, wanted: WantedEvents, limit: int) -> list[ActionRow]:
        """Events of all jobs and hosts: the newest first, and with `after` the oldest first."""
        query = _LINES.limit(limit)
        query = query.order_by(events.c.id if wanted.after is not None else events.c.id.desc())
        if wanted.job is not None:
            query = query.where(events.c.job_id == wanted.job)
        if wanted.host is not None:
            there = sa.select(attempts.c.id).where(attempts.c.host_id == wanted.host)
            query = query.where(sa.or_(events.c.host_id == wanted.host, events.c.attempt_id.in_(there)))
        if wanted.card is not None:
            query = query.where(events.c.gpu_id == wanted.card)
        if wanted.by is not None:
            query = query.where(events.c.actor == wanted.by)
        if wanted.kinds:
            query = query.where(events.c.kind.in_(wanted.kinds))
        if wanted.before is not None:
            query = query.where(events.c.id < wanted.before)
        if wanted.after is not None:
            query = query.where(events.c.id > wanted.after)
        with self.read() as connection:
            if wanted.since is not None:
                # Ids rise with time but for hosts' clocks: what is far older ends the search through the rest.
                far = sa.select(events.c.id).where(events.c.ts < wanted.since - OUT_OF_ORDER_S)
                older = connection.execute(far.order_by(events.c.id.desc()).limit(1)).scalar()
                query = query.where(events.c.ts >= wanted.since, events.c.id > (older or 0))
            return _rows(connection, query)

    def waits_told(self, job_ids: Collection[int]) -> dict[int, float]:
        """When it was told last of each of these jobs that it waits for long; without those of which it never was."""
        query = sa.select(events.c.job_id, sa.func.max(events.c.ts).label("at")).group_by(events.c.job_id)
        found: dict[int, float] = {}
        with self.read() as connection:
            for ids in reads.chunks(job_ids):
                mine = query.where(events.c.job_id.in_(ids), events.c.kind == Note.WAITING)
                found |= {row.job_id: row.at for row in connection.execute(mine)}
        return found

    def note_waits(self, texts: Mapping[int, str], now: float) -> None:
        """These jobs wait for long. Of one that does not wait any more nothing is told."""
        if not texts:
            return
        queued = sa.select(jobs.c.id).where(jobs.c.id.in_(texts), jobs.c.state == JobState.QUEUED)
        with self.write() as connection:
            for job_id in connection.execute(queued).scalars().all():
                reads.note(connection, now, Note.WAITING, texts[job_id], job_id=job_id)

    def event_kinds(self) -> set[str]:
        """Every kind that an event may be of."""
        return {*map(str, Event), *map(str, Note)}


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> list[ActionRow]:
    return unreadable.rows("event", connection.execute(query), events, attrgetter("id"), _action)


def _joined(kind: str, key: int | None, value: Any, wanted: type) -> Any:
    """What another record says, None where that can't be read."""
    if key is None or value is None or isinstance(value, wanted):
        return value

    def refuse(_: int) -> Any:
        raise Garbled(f"{value!r} is none of its values")

    unreadable.each(kind, [key], lambda one: one, refuse)
    return None


def _action(row: Any) -> ActionRow:
    told = dict(row._mapping)
    job, host, there, card = (told.pop(name) for name in ("job", "host", "there", "card"))
    job = _joined("job", row.job_id, job, str)
    told["attempt"] = _joined("attempt", row.attempt_id, row.attempt, int)
    event = EventRow(**told)
    if event.job_id is not None:
        subject = f"job {event.job_id}" + (f" ({job})" if job else "")
    elif event.gpu_id is not None:
        card = _joined("card", event.gpu_id, card, int)
        subject = f"card {host}/{'?' if card is None else card}"
    elif event.host_id is not None:
        subject = f"host {host}"
    else:
        subject = f"project {event.data['name']}" if event.data.get("name") else "the server"
    return ActionRow(event, subject, host or there)
