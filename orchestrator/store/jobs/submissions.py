"""Submissions that are made once: under a key of the client's, however often it has to ask."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from jobs.errors import Conflict, UsageError
from orchestrator.store.engine.database import Database
from orchestrator.store.jobs.dependencies import repeat_links
from orchestrator.store.jobs.jobs import insert_jobs
from orchestrator.store.requests import Actor, NewJob, NewLink, NewSubmission, Note, SubmitKey
from orchestrator.store.rows import JobRow
from orchestrator.store.schema.tables import jobs, submissions

KEPT_S = 7 * 86_400.0  # a key that is older may be used again


@dataclass(frozen=True)
class Taken:
    """The jobs of a submission. again: an earlier request with its key stored them; values: what a matrix gave each."""

    rows: list[JobRow]
    again: bool = False
    values: Sequence[Mapping[str, Any]] = field(default=())


class SubmissionStore(Database):
    """Submissions."""

    def taken(self, key: SubmitKey) -> Taken | None:
        """What a request with this key stored, None where there was none. Raises UsageError where it was another."""
        with self.read() as connection:
            return _known(connection, key)

    def submit(self, new: Sequence[NewJob], now: float) -> list[JobRow]:
        """Stores jobs as queued, all or none. Durable when it returns."""
        (made,) = self.submit_groups([NewSubmission(new)], now)
        assert isinstance(made, Taken)  # without a key nothing is refused
        return made.rows

    def submit_groups(self, groups: Sequence[NewSubmission], now: float) -> list[Taken | UsageError]:
        """Several clients' submissions under one commit. Those whose key is known are not stored again; an error where
        it was another submission's.
        """
        with self.write() as connection:
            fresh = _fresh(connection, groups, now)
            values = {at: [job.values for job in groups[at].jobs] for at in fresh}
            made = iter(insert_jobs(connection, [groups[at].jobs for at in fresh], now))
            rows = {at: list(itertools.islice(made, len(groups[at].jobs))) for at in fresh}
            for at in fresh:
                _name_jobs(connection, groups[at].key, rows[at], values[at])
            return [
                Taken(rows[at], values=values[at]) if at in rows else _again(connection, group.key)
                for at, group in enumerate(groups)
            ]

    def requeue(
        self,
        job_id: int,
        now: float,
        actor: Actor | None = None,
        again: NewJob | None = None,
        key: SubmitKey | None = None,
        steps: Sequence[NewJob] = (),
    ) -> JobRow:
        """Submits an ended job again, as a new job in no group. Raises Conflict while it is queued or running.

        It waits for what the old one waits for still; what can't come to pass any more is not waited for. again: what
        is submitted, None: the very same, which begins at step 0. key: of the request; what it has made is not made
        again. Raises UsageError where it was another's. steps: that follow it, which is the first of this submission.
        """
        with self.write() as connection:
            if key is not None and not _claim(connection, key, now):
                return _again_or_raise(connection, key).rows[0]
            row = reads.one_job(connection, job_id)
            if not row.ended:
                raise Conflict(f"job {job_id} is {row.state}; only an ended job can be requeued")
            if again is None:
                again = NewJob(row.name, row.user, row.spec, row.priority, row.project)
            if row.step_of is not None:
                again = replace(again, step_of=NewLink(row.step_of))
            again = replace(again, address=actor.address if actor else None)
            copy = insert_jobs(connection, [[again, *steps]], now, {"copy_of": job_id})[0]
            repeat_links(connection, job_id, copy.id)
            text = f"submitted again as job {copy.id}"
            reads.note(
                connection, now, Note.COPIED, text, job_id=job_id, data={"job_id": copy.id}, actor=actor
            )
            _name_jobs(connection, key, [copy], [{}])
        return copy

    def continued_by(self, job_ids: Collection[int]) -> dict[int, list[JobRow]]:
        """By job, those that go on from its checkpoints, or were to."""
        found: dict[int, list[JobRow]] = {}
        with self.read() as connection:
            for ids in reads.chunks(job_ids):
                for row in reads.job_rows(connection, sa.select(jobs).where(jobs.c.continues.in_(ids))):
                    found.setdefault(row.continues or 0, []).append(row)
        return found

    def forget_submissions(self, now: float) -> int:
        """Removes the keys that are too old to come again. How many."""
        old = submissions.delete().where(submissions.c.made_at < now - KEPT_S)
        with self.write() as connection:
            return connection.execute(old).rowcount


def _fresh(connection: sa.Connection, groups: Sequence[NewSubmission], now: float) -> list[int]:
    """Places of the submissions to store. Keys are claimed in their order: two servers do not wait for each other."""
    keyed = {group.key.key: at for at, group in reversed(list(enumerate(groups))) if group.key is not None}
    mine = {at for _, at in sorted(keyed.items()) if _claim(connection, groups[at].key, now)}
    return [at for at, group in enumerate(groups) if group.key is None or at in mine]


def _claim(connection: sa.Connection, key: SubmitKey | None, now: float) -> bool:
    """Whether nobody had this key before; another transaction that is about to have it is waited for."""
    assert key is not None
    row = {"key": key.key, "digest": key.digest, "made_at": now, "jobs": [], "values": []}
    if connection.dialect.name == "sqlite":
        insert: Any = sa.dialects.sqlite.insert(submissions)
    else:
        insert = sa.dialects.postgresql.insert(submissions)
    made = insert.values(**row).on_conflict_do_nothing().returning(submissions.c.key)
    return connection.execute(made).first() is not None


def _name_jobs(
    connection: sa.Connection,
    key: SubmitKey | None,
    rows: Sequence[JobRow],
    values: Sequence[Mapping[str, Any]],
) -> None:
    if key is not None:
        named = submissions.update().where(submissions.c.key == key.key)
        connection.execute(named.values(jobs=[row.id for row in rows], values=list(values)))


def _again(connection: sa.Connection, key: SubmitKey | None) -> Taken | UsageError:
    assert key is not None
    try:
        return _again_or_raise(connection, key)
    except UsageError as error:
        return error


def _again_or_raise(connection: sa.Connection, key: SubmitKey) -> Taken:
    found = _known(connection, key)
    assert found is not None  # its claim has just failed
    return found


def _known(connection: sa.Connection, key: SubmitKey) -> Taken | None:
    row = connection.execute(sa.select(submissions).where(submissions.c.key == key.key)).one_or_none()
    if row is None:
        return None
    if row.digest != key.digest:
        raise UsageError(
            f"Idempotency-Key: {key.key} was given with another submission; use a new key for each submission"
        )
    by_id = {
        one.id: one
        for ids in reads.chunks(row.jobs)
        for one in reads.job_rows(connection, sa.select(jobs).where(jobs.c.id.in_(ids)))
    }
    return Taken([by_id[job_id] for job_id in row.jobs], again=True, values=row.values)
