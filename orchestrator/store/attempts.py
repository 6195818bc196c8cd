"""Attempts in the database: stopped, ended with what was measured."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from jobs.errors import NotFound
from jobs.report import AttemptOffsets, Ended
from jobs.state import Code, Event, JobState, Reason
from orchestrator.store.database import Database, Stale
from orchestrator.store.move import move
from orchestrator.store.observations import observe
from orchestrator.store.rows import AttemptRow, Note
from orchestrator.tables import attempts, jobs, leases, progress

_FIGURES = ("allocated_bytes", "reserved_bytes", "device_bytes", "step_s", "train_s", "tokens_per_s")
_LOSSES = ("first_loss", "last_loss")


class AttemptStore(Database):
    """Attempts and their leases. Every transaction touches the job before the attempt: two can't deadlock."""

    def request_stop(self, attempt_id: int, reason: str, now: float, because: Reason | None = None) -> bool:
        """Asks for the end of an open attempt. False when it is closed or was asked before.

        because: what its job says meanwhile, None: that it is stopping.
        """
        open_here = sa.and_(
            attempts.c.id == attempt_id, attempts.c.outcome.is_(None), attempts.c.stop_requested_at.is_(None)
        )
        stopping = because or Reason(Code.STOPPING, f"stopping: {reason}")
        its_job = sa.select(attempts.c.job_id).where(open_here).scalar_subquery()
        try:
            with self.write() as connection:
                update = jobs.update().where(jobs.c.id == its_job, jobs.c.state == JobState.RUNNING)
                connection.execute(update.values(**reads.reason_values(stopping)))
                asked = attempts.update().where(open_here).values(stop_requested_at=now, stop_reason=reason)
                row = connection.execute(asked.returning(attempts.c.job_id)).first()
                if row is None:
                    raise Stale
                data = {"reason": reason, **(because.figures if because else {})}
                reads.note(
                    connection,
                    now,
                    Note.STOP_REQUESTED,
                    f"asked to stop: {because.text if because else reason}",
                    job_id=row.job_id,
                    attempt_id=attempt_id,
                    data=data,
                )
        except Stale:
            return False
        return True

    def end_attempt(
        self,
        attempt_id: int,
        number: int,
        ended: Ended,
        event: Event,
        reason: Reason,
        now: float,
        not_before: float | None = None,
    ) -> bool:
        """Closes an open attempt, frees its cards, notes what was measured and moves its job.

        False, and nothing changed, when the attempt is closed, bears another number, or its job was
        cancelled while the caller decided to requeue it (decide again: now it is to be cancelled). Raises
        Conflict on an illegal event.
        """
        mine = sa.and_(attempts.c.id == attempt_id, attempts.c.number == number, attempts.c.outcome.is_(None))
        try:
            with self.write() as connection:
                found = reads.attempt_rows(connection, mine)
                if not found:
                    raise Stale
                attempt = found[0]
                not_cancelled = [jobs.c.cancel_requested_at.is_(None)] if event == Event.REQUEUED else []
                moved = move(
                    connection,
                    attempt.job_id,
                    JobState.RUNNING,
                    event,
                    reason,
                    now,
                    *not_cancelled,
                    not_before=not_before,
                )
                closed = connection.execute(attempts.update().where(mine).values(**_closing(ended, now)))
                if not moved or not closed.rowcount:
                    raise Stale
                held = leases.update().where(
                    leases.c.attempt_id == attempt_id, leases.c.released_at.is_(None)
                )
                connection.execute(held.values(released_at=now))
                observe(connection, attempt, ended, now)
                data = {"outcome": ended.outcome, "message": ended.message, **reason.as_dict()}
                reads.note(
                    connection,
                    now,
                    event,
                    reason.text,
                    job_id=attempt.job_id,
                    attempt_id=attempt_id,
                    data=data,
                )
        except Stale:
            return False
        return True

    def attempt(self, attempt_id: int) -> AttemptRow:
        """The attempt of that id. Raises NotFound."""
        with self.read() as connection:
            found = reads.attempt_rows(connection, attempts.c.id == attempt_id)
        if not found:
            raise NotFound(f"there is no attempt {attempt_id}")
        return found[0]

    def attempts(self, job_id: int) -> list[AttemptRow]:
        """The job's attempts, oldest first."""
        with self.read() as connection:
            return reads.attempt_rows(connection, attempts.c.job_id == job_id)

    def open_attempts(self, host_id: int | None = None) -> list[AttemptRow]:
        """Attempts without an outcome, everywhere or on one host."""
        here = [] if host_id is None else [attempts.c.host_id == host_id]
        with self.read() as connection:
            return reads.attempt_rows(connection, attempts.c.outcome.is_(None), *here)

    def closed(self, attempt_ids: Collection[int]) -> set[int]:
        """Those of the attempts that have ended, or never were."""
        still_open: set[int] = set()
        with self.read() as connection:
            for ids in reads.chunks(attempt_ids):
                query = sa.select(attempts.c.id).where(attempts.c.id.in_(ids), attempts.c.outcome.is_(None))
                still_open |= set(connection.execute(query).scalars())
        return set(attempt_ids) - still_open

    def offsets(self, host_id: int) -> list[AttemptOffsets]:
        """The open attempts of a host, and how much of their news is stored."""
        step = sa.select(sa.func.max(progress.c.step)).where(progress.c.attempt_id == attempts.c.id)
        query = (
            sa.select(
                attempts.c.id,
                attempts.c.job_id,
                attempts.c.number,
                attempts.c.log_bytes,
                step.scalar_subquery(),
            )
            .where(attempts.c.host_id == host_id, attempts.c.outcome.is_(None))
            .order_by(attempts.c.id)
        )
        with self.read() as connection:
            return [
                AttemptOffsets(
                    attempt_id=id_, job_id=job_id, number=number, log_offset=log_bytes, step=last or 0
                )
                for id_, job_id, number, log_bytes, last in connection.execute(query)
            ]


def _closing(ended: Ended, now: float) -> dict[str, Any]:
    """The columns of attempts that an end fills."""
    figures = {
        name: getattr(ended, name) for name in (*_FIGURES, *_LOSSES) if getattr(ended, name) is not None
    }
    return {
        "outcome": ended.outcome,
        "message": ended.message,
        "ended_at": now,
        "steps": ended.steps,
        "last_checkpoint": ended.last_checkpoint,
        "result": ended.result,
        "measured": figures or None,
    }
