"""Held jobs: queued, and not to start until they are released."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

import orchestrator.store.reads as reads
from jobs.errors import Conflict
from jobs.state import Code, JobState, Reason, held
from orchestrator.store.engine.database import Database
from orchestrator.store.requests import Actor, Note
from orchestrator.store.rows import JobRow
from orchestrator.store.schema.tables import events, jobs

_FREE = (
    sa.select(jobs.c.id)
    .where(jobs.c.state == JobState.QUEUED, jobs.c.held_at.is_(None), jobs.c.cancel_requested_at.is_(None))
    .order_by(jobs.c.id)
    .with_for_update(key_share=True)
)
_HOLD = (
    jobs.update()
    .where(jobs.c.id == sa.bindparam("job"), jobs.c.state == JobState.QUEUED)
    .values(held_at=sa.bindparam("now", type_=sa.Double), held_by=sa.bindparam("by"))
)
_RELEASED = Reason(Code.NEW, "released; waits for the scheduler's next look")


class HoldStore(Database):
    """Hold and release."""

    def hold(self, job_id: int, now: float, actor: Actor) -> JobRow:
        """Keeps a queued job from starting; one that is held already stays as it is. Raises Conflict, NotFound."""
        with self.write() as connection:
            hold_jobs(connection, {job_id: actor}, now)
            row = reads.one_job(connection, job_id)
        if row.held_at is not None and row.state is JobState.QUEUED:
            return row
        if row.ended:
            raise Conflict(f"job {job_id} has ended ({row.state}); only a queued job can be held")
        raise Conflict(
            f"job {job_id} is running; a hold keeps a queued job from starting. `tuneyard cancel {job_id}` stops it"
        )

    def hold_group(self, group_id: int, now: float, actor: Actor) -> list[int]:
        """Keeps the queued jobs of a group from starting; those that were not held before. Others stay as they are."""
        members = sa.select(jobs.c.id).where(jobs.c.group_id == group_id)
        with self.write() as connection:
            ids = connection.execute(members).scalars().all()
            return hold_jobs(connection, dict.fromkeys(ids, actor), now)

    def release(self, job_id: int, now: float, actor: Actor) -> JobRow:
        """Lets a held job start; what it was held does not count as waiting. Raises Conflict, NotFound."""
        with self.write() as connection:
            done = _release(connection, jobs.c.id == job_id, now, actor)
            row = reads.one_job(connection, job_id)
        if not done:
            raise Conflict(f"job {job_id} is not held: it is {row.state}")
        return row

    def release_group(self, group_id: int, now: float, actor: Actor) -> list[int]:
        """Lets the held jobs of a group start; those."""
        with self.write() as connection:
            return _release(connection, jobs.c.group_id == group_id, now, actor)


def _release(connection: sa.Connection, which: sa.ColumnElement[bool], now: float, actor: Actor) -> list[int]:
    """Releases those of the jobs that are held; their ids."""
    held_now = (which, jobs.c.state == JobState.QUEUED, jobs.c.held_at.is_not(None))
    found = sa.select(jobs.c.id).where(*held_now).order_by(jobs.c.id).with_for_update(key_share=True)
    ids = list(connection.execute(found).scalars())
    waited_until = jobs.c.queued_at + sa.literal(now, sa.Double) - jobs.c.held_at
    values = {"held_at": None, "held_by": None, "queued_at": waited_until}
    connection.execute(jobs.update().where(*held_now).values(**values, **reads.reason_values(_RELEASED)))
    for job_id in ids:
        reads.note(connection, now, Note.RELEASED, "released", job_id=job_id, actor=actor)
    return ids


def hold_jobs(connection: sa.Connection, actors: Mapping[int, Actor], now: float) -> list[int]:
    """Holds those of the jobs that are queued and not held; their ids."""
    free = [
        job_id
        for ids in reads.chunks(actors)
        for job_id in connection.execute(_FREE.where(jobs.c.id.in_(ids))).scalars()
    ]
    if not free:
        return []
    rows = [
        {"job": job_id, "now": now, "by": by, **reads.reason_values(held(job_id, by, now))}
        for job_id in free
        for by in (actors[job_id].user,)
    ]
    connection.execute(_HOLD, rows)
    connection.execute(
        events.insert(),
        [
            {
                "ts": now,
                "job_id": job_id,
                "kind": str(Note.HELD),
                "text": "held",
                "data": {},
                **reads.asked_by(actors[job_id]),
            }
            for job_id in free
        ],
    )
    return free
