"""Jobs in the database: submitted, listed, cancelled, and why they wait."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
import orchestrator.store.unreadable as unreadable
from jobs.errors import Conflict, NotFound, UsageError
from jobs.state import TERMINAL, Code, Event, JobState, Reason
from orchestrator.store.engine.bulk import BulkInsert, next_ids
from orchestrator.store.engine.database import Database
from orchestrator.store.jobs.dependencies import insert_links
from orchestrator.store.jobs.groups import groups_named
from orchestrator.store.jobs.holds import hold_jobs
from orchestrator.store.jobs.steps import steps_of
from orchestrator.store.jobs.transitions import move
from orchestrator.store.jobs.views import views_of
from orchestrator.store.requests import ASKED, Actor, NewJob, Note
from orchestrator.store.rows import EventRow, JobRow, JobView
from orchestrator.store.schema.column_types import clean_text, quick_json, to_json
from orchestrator.store.schema.tables import attempts, events, jobs

PIECE = 500  # reasons under one commit
_NEWEST_EVENT = sa.select(sa.func.max(events.c.id))
_FIGURES = sa.type_coerce(jobs.c.reason_figures, sa.Text)  # as they are stored: equal values are equal texts
_REASONS = sa.select(jobs.c.id, jobs.c.reason_code, jobs.c.reason_text, _FIGURES).where(
    jobs.c.state == JobState.QUEUED
)
_SAY = (
    jobs.update()
    .where(jobs.c.id == sa.bindparam("job"), jobs.c.state == JobState.QUEUED)
    .values(
        reason_code=sa.bindparam("code"),
        reason_text=sa.bindparam("text"),
        reason_figures=sa.bindparam("figures", type_=sa.Text),
    )
)

_insert_jobs = BulkInsert(
    jobs,
    [
        *("id", "name", "user", "state", "reason_code", "reason_text", "reason_figures"),
        *("spec", "priority", "submitted_at", "project", "group_id", "queued_at"),
        *("continues", "uuid", "step_of"),
    ],
)
_insert_events = BulkInsert(events, ["ts", "job_id", "kind", "text", "data", "address"])
_NEW = Reason(Code.NEW, "waits for the scheduler's next look")
_CANCELLED = Reason(Code.CANCELLED, "cancelled while it waited")


class JobStore(Database):
    """Jobs."""

    def job(self, job_id: int) -> JobRow:
        """The job of that id. Raises NotFound."""
        with self.read() as connection:
            return reads.one_job(connection, job_id)

    def jobs_by_id(self, job_ids: Collection[int]) -> dict[int, JobRow]:
        """Those of the jobs that there are."""
        with self.read() as connection:
            return {
                row.id: row
                for ids in reads.chunks(job_ids)
                for row in reads.job_rows(connection, sa.select(jobs).where(jobs.c.id.in_(ids)))
            }

    def job_by_name(self, name: str) -> JobRow:
        """The newest job of that name. Raises NotFound."""
        query = sa.select(jobs).where(jobs.c.name == name).order_by(jobs.c.id.desc()).limit(1)
        with self.read() as connection:
            found = reads.job_rows(connection, query)
        if not found:
            raise NotFound(f"there is no job {name!r}; `tuneyard list` shows the jobs there are")
        return found[0]

    def newest_of(self, name: str) -> int | None:
        """The id of the newest job of that name, None where there is none."""
        with self.read() as connection:
            found: int | None = connection.execute(
                sa.select(sa.func.max(jobs.c.id)).where(jobs.c.name == name)
            ).scalar()
        return found

    def find_job(self, text: str) -> JobRow:
        """The job of that id, or the newest of that name.

        Raises NotFound, and UsageError for a name that a group of jobs has as well.
        """
        if text.isascii() and text.isdigit() and len(text) < 19:
            try:
                return self.job(int(text))
            except NotFound:
                pass  # a name may be all digits
        with self.read() as connection:
            groups = ", ".join(map(str, groups_named(connection, text)))
        try:
            found = self.job_by_name(text)
        except NotFound:
            if not groups:
                raise
            one = f"{text!r} is a group of jobs ({groups}), and this takes one job"
            raise NotFound(f"{one}; `tuneyard list {text}` shows them") from None
        if groups:
            both = f"{text!r} is the name of job {found.id} and of group {groups}"
            raise UsageError(f"{both}; give the id")
        return found

    def jobs(
        self,
        states: Collection[JobState] | None = None,
        limit: int = 50,
        before: int | None = None,
        *,
        group: int | None = None,
        project: str | None = None,
    ) -> list[JobRow]:
        """Jobs in any of states, of a group and of a project, newest first, with ids below before."""
        with self.read() as connection:
            return reads.job_rows(connection, _page(states, limit, before, group, project))

    def job_states(self, job_ids: Collection[int]) -> dict[int, JobState]:
        """The states of those of the jobs that there are."""
        query = sa.select(jobs.c.id, jobs.c.state)
        with self.read() as connection:
            return {
                id_: JobState(state)
                for ids in reads.chunks(job_ids)
                for id_, state in connection.execute(query.where(jobs.c.id.in_(ids)))
            }

    def counts(self, *, group: int | None = None, project: str | None = None) -> dict[JobState, int]:
        """How many jobs are in each state, of a group and of a project."""
        query = sa.select(jobs.c.state, sa.func.count()).where(*_of(group, project)).group_by(jobs.c.state)
        with self.read() as connection:
            found = {JobState(state): count for state, count in connection.execute(query)}
        return {state: found.get(state, 0) for state in JobState}

    def count_jobs(
        self,
        states: Collection[JobState] | None = None,
        *,
        group: int | None = None,
        project: str | None = None,
    ) -> int:
        """How many jobs are in any of states."""
        counts = self.counts(group=group, project=project)
        return sum(counts[state] for state in (JobState if states is None else states))

    def job_views(
        self,
        states: Collection[JobState] | None = None,
        limit: int = 50,
        before: int | None = None,
        *,
        group: int | None = None,
        project: str | None = None,
    ) -> list[JobView]:
        """jobs(), each with its latest attempt, progress and links. Five statements, whatever the number."""
        with self.read() as connection:
            page = _page(states, limit, before, group, project)
            return views_of(connection, reads.job_rows(connection, page))

    def job_view(self, job_id: int) -> JobView:
        """One job with its latest attempt, progress and links. Raises NotFound."""
        with self.read() as connection:
            return views_of(connection, [reads.one_job(connection, job_id)])[0]

    def queued(self, limit: int = 10_000) -> list[JobRow]:
        """Queued jobs in starting order: highest priority, then first come first served."""
        with self.read() as connection:
            return reads.queue_rows(connection, limit)

    def events(self, job_id: int) -> list[EventRow]:
        """What happened to the job, oldest first."""
        query = (
            sa.select(events, attempts.c.number.label("attempt"))
            .outerjoin(attempts, attempts.c.id == events.c.attempt_id)
            .where(events.c.job_id == job_id)
            .order_by(events.c.id)
        )
        with self.read() as connection:
            found = connection.execute(query)
            return unreadable.rows(
                "event", found, events, attrgetter("id"), lambda row: EventRow(**row._mapping)
            )

    def newest_event(self) -> int:
        """The id of the newest event of all; 0 before the first."""
        with self.read() as connection:
            return connection.execute(_NEWEST_EVENT).scalar() or 0

    def asked_since(self, event_id: int) -> bool:
        """Whether an event of ASKED is newer than that one."""
        query = sa.select(events.c.id).where(events.c.id > event_id, events.c.kind.in_(ASKED)).limit(1)
        with self.read() as connection:
            return connection.execute(query).first() is not None

    def request_cancel(
        self, job_id: int, now: float, because: Reason = _CANCELLED, actor: Actor | None = None
    ) -> JobRow:
        """Cancels a queued job at once, asks a running one to stop. Raises Conflict where it has ended.

        because: what a queued one is told; actor: who asked, None: the scheduler did.
        """
        with self.write() as connection:
            asked = _cancel(connection, job_id, now, because, actor)
            row = reads.one_job(connection, job_id)
        if row.ended and not asked:
            raise Conflict(f"job {job_id} has ended already: it {_ended_as(row)}")
        return row

    def cancel_group(self, group: int, now: float, actor: Actor | None = None) -> list[int]:
        """request_cancel() for all jobs of a group that have not ended, at once. Their ids. Raises NotFound."""
        members = sa.select(jobs.c.id).where(jobs.c.group_id == group).order_by(jobs.c.id)
        with self.write() as connection:
            ids = connection.execute(members).scalars().all()
            asked = [job_id for job_id in ids if _cancel(connection, job_id, now, actor=actor)]
        if not ids:
            raise NotFound(f"there is no group {group}; `tuneyard list` shows the groups of jobs")
        return asked

    def fail_queued(self, job_id: int, reason: Reason, now: float) -> bool:
        """Ends a queued job that can never run. False when it is not queued any more."""
        with self.write() as connection:
            moved = move(connection, job_id, JobState.QUEUED, Event.FAILED, reason, now)
            if moved:
                reads.note(connection, now, Event.FAILED, reason.text, job_id=job_id, data=reason.as_dict())
        return moved

    def set_reasons(self, reasons: Mapping[int, Reason]) -> int:
        """Says why queued jobs wait. Writes only what changed, and returns how many that were.

        In pieces: a queue of 10,000 must not keep reports and submissions waiting.
        """
        with self.read() as connection:
            stored = {id_: tuple(rest) for id_, *rest in connection.execute(_REASONS).all()}
        encoded = _Encoded()
        said = {id_: encoded(reason) for id_, reason in reasons.items() if id_ in stored}
        changed = [
            {"job": id_, "code": values[0], "text": values[1], "figures": values[2]}
            for id_, values in sorted(said.items())
            if stored[id_] != values
        ]
        for start in range(0, len(changed), PIECE):
            with self.write() as connection:
                connection.execute(_SAY, changed[start : start + PIECE])
        return len(changed)


def insert_jobs(
    connection: sa.Connection,
    submissions: Sequence[Sequence[NewJob]],
    now: float,
    data: dict[str, Any] | None = None,
) -> list[JobRow]:
    """Stores the jobs of submissions as queued; the rows of all, one after the other."""
    new = [job for submission in submissions for job in submission]
    ids = list(next_ids(connection, jobs, len(new)))
    groups = _group_ids(submissions, ids)
    made = [
        JobRow(
            id=job_id,
            name=clean_text(job.name),
            user=clean_text(job.user),
            state=JobState.QUEUED,
            reason=_NEW,
            spec_json=quick_json(job.spec),
            priority=job.priority,
            submitted_at=now,
            project=clean_text(job.project),
            group_id=group_id,
            queued_at=now,
            continues=job.continues,
            uuid=job.uuid,
            step_of=step_of,
        )
        for job_id, job, group_id, step_of in zip(ids, new, groups, steps_of(submissions, ids), strict=True)
    ]
    for row, job in zip(made, new, strict=True):
        row.__dict__["spec"] = job.spec  # known: it need not be read back from the text
    code, text, queued = str(_NEW.code), _NEW.text, str(JobState.QUEUED)
    _insert_jobs(
        connection,
        [
            (
                row.id,
                row.name,
                row.user,
                queued,
                code,
                text,
                "{}",
                row.spec_json,
                row.priority,
                now,
                *(row.project, row.group_id, now, row.continues, row.uuid, row.step_of),
            )
            for row in made
        ],
    )
    insert_links(connection, submissions, ids)
    kind, more = str(Note.SUBMITTED), to_json(data or {})
    _insert_events(
        connection,
        [
            (now, row.id, kind, f"submitted by {row.user}", more, job.address)
            for row, job in zip(made, new, strict=True)
        ],
    )
    held = {
        row.id: Actor(job.held_by, job.address or "")
        for row, job in zip(made, new, strict=True)
        if job.held_by is not None
    }
    if not held:
        return made
    hold_jobs(connection, held, now)
    return [reads.one_job(connection, row.id) if row.id in held else row for row in made]


def _group_ids(submissions: Sequence[Sequence[NewJob]], ids: Sequence[int]) -> list[int | None]:
    """For each job the id of its group: that of the first job in it."""
    found: list[int | None] = []
    for submission in submissions:
        firsts: dict[int, int] = {}
        for job in submission:
            its_id = ids[len(found)]
            found.append(None if job.group is None else firsts.setdefault(job.group, its_id))
    return found


def _cancel(
    connection: sa.Connection,
    job_id: int,
    now: float,
    because: Reason = _CANCELLED,
    actor: Actor | None = None,
) -> bool:
    """Whether the job had not ended, nor been asked before."""
    # Both states in one statement: between two, a job could go from one to the other, missed by both.
    ask = jobs.update().where(
        jobs.c.id == job_id, jobs.c.state.not_in(sorted(TERMINAL)), jobs.c.cancel_requested_at.is_(None)
    )
    was = connection.execute(ask.values(cancel_requested_at=now).returning(jobs.c.state)).scalar()
    if was == JobState.QUEUED:
        move(connection, job_id, JobState.QUEUED, Event.CANCELLED, because, now)
        reads.note(connection, now, Event.CANCELLED, because.text, job_id=job_id, actor=actor)
    elif was == JobState.RUNNING:
        reads.note(connection, now, Note.CANCEL_REQUESTED, "asked to stop", job_id=job_id, actor=actor)
    return was is not None


def _of(group: int | None, project: str | None) -> list[sa.ColumnElement[bool]]:
    here = [] if group is None else [jobs.c.group_id == group]
    return here if project is None else [*here, jobs.c.project == project]


def _page(
    states: Collection[JobState] | None,
    limit: int,
    before: int | None,
    group: int | None,
    project: str | None,
) -> sa.Select[Any]:
    query = sa.select(jobs).where(*_of(group, project)).order_by(jobs.c.id.desc()).limit(limit)
    if states is not None:
        query = query.where(jobs.c.state.in_(sorted(states)))
    return query if before is None else query.where(jobs.c.id < before)


def _ended_as(row: JobRow) -> str:
    return "was cancelled" if row.state == JobState.CANCELLED else str(row.state)


class _Encoded:
    """Reasons as they are stored. Equivalent jobs have equal reasons: such are encoded once.

    By code and text it has the last one only, so that many with other figures cost no more than encoding each.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[Reason, tuple[str, str, str]]] = {}

    def __call__(self, reason: Reason) -> tuple[str, str, str]:
        """Code, text, and figures as JSON."""
        found = self._last.get((reason.code, reason.text))
        if found is None or found[0] != reason:
            made = (str(reason.code), clean_text(reason.text), to_json(reason.figures))
            found = self._last[reason.code, reason.text] = (reason, made)
        return found[1]
