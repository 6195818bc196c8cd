"""Attempts in the database: stopped, ended with what was measured."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from jobs.errors import NotFound
from jobs.messages.reports import Ended
from jobs.state import Code, Event, JobState, Reason
from orchestrator.store.attempts.host_faults import note_fault
from orchestrator.store.engine.database import Database, Stale
from orchestrator.store.jobs.transitions import move
from orchestrator.store.observations import observe
from orchestrator.store.requests import Note
from orchestrator.store.rows import AttemptRow
from orchestrator.store.schema.tables import attempts, jobs, leases

_FIGURES = (
    *("allocated_bytes", "reserved_bytes", "device_bytes", "checkpoint_bytes"),
    *("step_s", "train_s", "tokens_per_s", "total_steps"),
)
_LOSSES = ("first_loss", "last_loss", "eval_loss", "skipped")
_ATTEMPT = sa.bindparam("attempt", type_=sa.BigInteger)
_MINE = attempts.update().where(attempts.c.id == _ATTEMPT, attempts.c.outcome.is_(None))
_RELEASE = (
    leases.update()
    .where(leases.c.attempt_id == _ATTEMPT, leases.c.released_at.is_(None))
    .values(released_at=sa.bindparam("now", type_=sa.Double))
)


@dataclass(frozen=True)
class Closing:
    """The end of an attempt as it is to be written.

    not_before: when its job may start again, None: at once; at_fault: the hosts on which no trainer could start.
    """

    attempt_id: int
    number: int
    ended: Ended
    event: Event
    reason: Reason
    not_before: float | None = None
    at_fault: frozenset[int] = frozenset()


class AttemptStore(Database):
    """Attempts and their leases. Every transaction touches the job before the attempt: two can't deadlock."""

    def request_stop(
        self,
        attempt_id: int,
        reason: str,
        now: float,
        because: Reason | None = None,
        stop_for: int | None = None,
    ) -> bool:
        """Asks for the end of an open attempt. False when it is closed or was asked before.

        because: what its job says meanwhile, None: that it is stopping; stop_for: the job that gets its cards.
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
                values = {"stop_requested_at": now, "stop_reason": reason, "stop_for": stop_for}
                asked = attempts.update().where(open_here).values(values)
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

    def end_attempts(self, closings: Sequence[Closing], now: float) -> set[int]:
        """Closes open attempts, frees their cards, notes what was measured and moves their jobs. Their ids.

        Under one commit, and each by itself: left out, with nothing changed, is an attempt that is closed, bears
        another number, or whose job was cancelled while the caller decided to requeue it (decide again: now it is to be
        cancelled). Raises Conflict on an illegal event, and changes nothing.
        """
        done: set[int] = set()
        if not closings:
            return done
        with self.write() as connection:
            found = {
                attempt.id: attempt
                for ids in reads.chunks({one.attempt_id for one in closings})
                for attempt in reads.attempt_rows(
                    connection, attempts.c.id.in_(ids), attempts.c.outcome.is_(None)
                )
            }
            for one in sorted(closings, key=lambda one: one.attempt_id):  # as reports do: two can't deadlock
                attempt = found.get(one.attempt_id)
                if attempt is None or attempt.number != one.number:
                    continue
                try:
                    with connection.begin_nested():
                        _close(connection, attempt, one, now)
                except Stale:
                    continue
                done.add(one.attempt_id)
        return done

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

    def histories(self, job_ids: Collection[int]) -> dict[int, list[AttemptRow]]:
        """The attempts of several jobs, oldest first."""
        found: dict[int, list[AttemptRow]] = {job_id: [] for job_id in job_ids}
        with self.read() as connection:
            for ids in reads.chunks(job_ids):
                for attempt in reads.attempt_rows(connection, attempts.c.job_id.in_(ids)):
                    found[attempt.job_id].append(attempt)
        return found

    def open_attempts(self) -> list[AttemptRow]:
        """Attempts without an outcome."""
        with self.read() as connection:
            return reads.attempt_rows(connection, attempts.c.outcome.is_(None))

    def attempts_to_end(self, also: Collection[int] = ()) -> list[AttemptRow]:
        """Those of the open attempts of which a host told the end, and those of `also`. Of a fleet that trains this is
        none of thousands, which are not read.
        """
        told = sa.or_(attempts.c.reported.is_not(None), attempts.c.id.in_(sorted(also)))
        with self.read() as connection:
            return reads.attempt_rows(connection, attempts.c.outcome.is_(None), told)

    def attempts_to_hand(self) -> list[AttemptRow]:
        """Open attempts without a trainer, which nobody asked to stop and of whose end no host told."""
        not_yet = (attempts.c[name].is_(None) for name in ("started_at", "stop_requested_at", "reported"))
        with self.read() as connection:
            return reads.attempt_rows(connection, attempts.c.outcome.is_(None), *not_yet)

    def closed(self, attempt_ids: Collection[int]) -> set[int]:
        """Those of the attempts that have ended, or never were."""
        still_open: set[int] = set()
        with self.read() as connection:
            for ids in reads.chunks(attempt_ids):
                query = sa.select(attempts.c.id).where(attempts.c.id.in_(ids), attempts.c.outcome.is_(None))
                still_open |= set(connection.execute(query).scalars())
        return set(attempt_ids) - still_open


def _close(connection: sa.Connection, attempt: AttemptRow, one: Closing, now: float) -> None:
    """Raises Stale where it moved."""
    ended = one.ended
    not_cancelled = [jobs.c.cancel_requested_at.is_(None)] if one.event == Event.REQUEUED else []
    changes = {"not_before": one.not_before}
    job_id, running = attempt.job_id, JobState.RUNNING
    moved = move(connection, job_id, running, one.event, one.reason, now, *not_cancelled, **changes)
    closed = connection.execute(_MINE.values(**_closing(ended, now)), {"attempt": attempt.id})
    if not moved or not closed.rowcount:
        raise Stale
    connection.execute(_RELEASE, {"attempt": attempt.id, "now": now})
    note_fault(connection, one.at_fault, ended.message, now)
    observe(connection, attempt, ended, now)
    data = {"outcome": ended.outcome, "message": ended.message, **one.reason.as_dict()}
    said = one.reason.text
    reads.note(connection, now, one.event, said, job_id=job_id, attempt_id=attempt.id, data=data)


def _closing(ended: Ended, now: float) -> dict[str, Any]:
    """The columns of attempts that an end fills."""
    figures = {
        name: getattr(ended, name) for name in (*_FIGURES, *_LOSSES) if getattr(ended, name) is not None
    }
    if not ended.skipped:
        del figures["skipped"]
    if ended.made is not None:
        figures["made"] = ended.made
    return {
        "outcome": ended.outcome,
        "message": ended.message,
        "ended_at": now,
        "steps": ended.steps,
        "last_checkpoint": ended.last_checkpoint,
        "result": ended.result,
        "measured": figures or None,
    }
