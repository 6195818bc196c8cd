"""What jobs wait for: other jobs' ends."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

import sqlalchemy as sa

import orchestrator.store.reads as reads
import orchestrator.store.unreadable as unreadable
from jobs.state import Code, Event, JobState, On, Reason, opens
from orchestrator.store.engine.bulk import BulkInsert
from orchestrator.store.engine.database import Database
from orchestrator.store.jobs.transitions import move
from orchestrator.store.requests import NewJob
from orchestrator.store.rows import LinkRow
from orchestrator.store.schema.tables import job_links, jobs

_insert = BulkInsert(job_links, ["job_id", "after_id", "on"])
_others = jobs.alias("others")
_NEEDS = {
    On.SUCCESS: "only when that has succeeded",
    On.FAILURE: "only when that has failed or was cancelled",
    On.ANY: "when that has ended",
}


def _decided(opened: bool) -> sa.ColumnElement[bool]:
    """Whether a link's other job has ended, in a way that lets start, or never will."""
    return sa.or_(
        *(
            sa.and_(job_links.c.on == on, _others.c.state == state)
            for on in On
            for state in JobState
            if opens(on, state) is opened
        )
    )


# Built once: each is in a statement of every start or every look at the fleet.
_MET, _NEVER = _decided(True), _decided(False)
_LINKED = job_links.join(_others, _others.c.id == job_links.c.after_id)
# A condition on jobs: each that it waits for has ended as it asks.
NOT_WAITING = sa.not_(
    sa.select(sa.literal_column("1"))
    .select_from(_LINKED)
    .where(job_links.c.job_id == jobs.c.id, sa.not_(_MET))
    .correlate(jobs)
    .exists()
)
STARTED_EARLY = (
    sa.select(job_links, _others.c.state)
    .select_from(_LINKED.join(jobs, jobs.c.id == job_links.c.job_id))
    .where(jobs.c.started_at.is_not(None), sa.not_(_MET))
)
_STUCK = (
    sa.select(job_links, _others.c.name, _others.c.state)
    .select_from(_LINKED.join(jobs, jobs.c.id == job_links.c.job_id))
    .where(jobs.c.state == JobState.QUEUED, _NEVER)
    .order_by(job_links.c.job_id, job_links.c.after_id)
)


def insert_links(
    connection: sa.Connection, submissions: Sequence[Sequence[NewJob]], ids: Sequence[int]
) -> None:
    """Stores the links of jobs that were inserted with these ids, in the same order."""
    rows: list[tuple[int, int, str]] = []
    first = 0
    for submission in submissions:
        for index, job in enumerate(submission):
            for link in job.links:
                after_id = ids[first + link.job] if link.here else link.job
                rows.append((ids[first + index], after_id, str(link.on)))
        first += len(submission)
    _insert(connection, rows)


def repeat_links(connection: sa.Connection, job_id: int, copy_id: int) -> None:
    """Gives a copy the links of its original, except those that can't come to pass any more."""
    kept = [
        (copy_id, link.after_id, str(link.on))
        for links in links_of(connection, [job_id]).values()
        for link in links
        if opens(link.on, link.state) is not False
    ]
    _insert(connection, kept)


def links_of(connection: sa.Connection, job_ids: Collection[int]) -> dict[int, list[LinkRow]]:
    """The links of each of the jobs that has any, by the id of the other job."""
    return {
        job_id: links
        for ids in reads.chunks(job_ids)
        for job_id, links in _rows(connection, job_links.c.job_id.in_(ids)).items()
    }


def unmet_links(connection: sa.Connection) -> dict[int, list[LinkRow]]:
    """What queued jobs wait for still, or in vain."""
    queued = sa.select(jobs.c.id).where(jobs.c.state == JobState.QUEUED)
    return _rows(connection, job_links.c.job_id.in_(queued), sa.not_(_MET))


def _on(text: str) -> On:
    """One of another version stays as it is stored: who looks into it raises, for that job alone."""
    return On(text) if text in set(On) else cast(On, text)


def _rows(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> dict[int, list[LinkRow]]:
    query = (
        sa.select(job_links.c.job_id, job_links.c.after_id, job_links.c.on, _others.c.state)
        .select_from(_LINKED)
        .where(*conditions)
        .order_by(job_links.c.job_id, job_links.c.after_id)
    )
    found: dict[int, list[LinkRow]] = {}
    for link in unreadable.each("link", connection.execute(query), _named, _link):
        found.setdefault(link.job_id, []).append(link)
    return found


def _named(row: Any) -> str:
    return f"of job {row.job_id} to job {row.after_id}"


def _link(row: Any) -> LinkRow:
    job_id, after_id, on, state = row
    return LinkRow(job_id, after_id, _on(on), JobState(state))


class LinkStore(Database):
    """Chains of jobs."""

    def links(self, job_ids: Collection[int]) -> dict[int, list[LinkRow]]:
        """What each of the jobs waits for or waited for, by the id of the other job."""
        if not job_ids:
            return {}
        with self.read() as connection:
            return links_of(connection, job_ids)

    def fail_unmet(self, now: float) -> list[int]:
        """Ends the queued jobs that wait for what can't come to pass, and those that wait for these. Their ids.

        A transaction for each link of a chain, so that each takes its jobs in the order of their ids and two can't
        deadlock.
        """
        failed: list[int] = []
        while True:
            with self.read() as connection:
                stuck = _stuck(connection)
            if not stuck:
                return failed
            with self.write() as connection:
                for job_id, reason in sorted(stuck.items()):
                    if move(connection, job_id, JobState.QUEUED, Event.FAILED, reason, now):
                        data = reason.as_dict()
                        reads.note(connection, now, Event.FAILED, reason.text, job_id=job_id, data=data)
                        failed.append(job_id)


def _stuck(connection: sa.Connection) -> dict[int, Reason]:
    """Queued jobs that can never start, each with the first reason for that."""
    found: dict[int, Reason] = {}
    for row in connection.execute(_STUCK):
        found.setdefault(row.job_id, _never(row))
    return found


def _never(row: Any) -> Reason:
    named = f"job {row.after_id}" + (f" ({row.name})" if row.name else "")
    ended = "was cancelled" if row.state == JobState.CANCELLED else row.state
    text = f"{named} {ended}, and this job starts {_NEEDS[On(row.on)]}"
    return Reason(Code.AFTER, text, {"after": row.after_id, "on": row.on, "state": row.state})
