"""What must always hold (DESIGN, section 5), as far as the tables can show it.

`tuneyard db check` asks, and every store test at its end.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from jobs.errors import Conflict
from jobs.state import TERMINAL, Event, JobState, after
from jobs.units import counted
from orchestrator.store.jobs.dependencies import STARTED_EARLY
from orchestrator.store.requests import Note
from orchestrator.store.schema.tables import attempts, events, gpus, hosts, jobs, leases, log_chunks

_OPEN = attempts.c.outcome.is_(None)
_HELD = leases.c.released_at.is_(None)
_MOVES = frozenset(str(event) for event in Event)
# Built once: to build a statement costs more than to ask a small database.
_LEASED = (
    sa.select(
        gpus.c.uuid,
        gpus.c.memory_bytes,
        sa.func.count().label("open"),
        sa.func.sum(sa.case((leases.c.exclusive, 1), else_=0)).label("exclusive"),
        sa.func.sum(leases.c.memory_bytes).label("promised"),
    )
    .select_from(gpus.join(leases))
    .where(_HELD)
    .group_by(gpus.c.id, gpus.c.uuid, gpus.c.memory_bytes)
)
_OPEN_COUNT, _HELD_COUNT = sa.func.count(attempts.c.id), sa.func.count(leases.c.gpu_id)
_NOT_ONE_OPEN = (
    sa.select(jobs.c.id, jobs.c.state, _OPEN_COUNT.label("open"))
    .outerjoin(attempts, sa.and_(attempts.c.job_id == jobs.c.id, _OPEN))
    .group_by(jobs.c.id, jobs.c.state)
    .having(sa.case((jobs.c.state == JobState.RUNNING, 1), else_=0) != _OPEN_COUNT)
)
_STEP = jobs.c.step_of.is_not(None)
_TRAINS = sa.and_(_OPEN, sa.not_(_STEP))
_WRONGLY_HELD = (
    sa.select(attempts.c.id, attempts.c.outcome, _HELD_COUNT.label("held"))
    .select_from(attempts.join(jobs).outerjoin(leases, sa.and_(leases.c.attempt_id == attempts.c.id, _HELD)))
    .group_by(attempts.c.id, attempts.c.outcome, jobs.c.step_of)
    .having(sa.or_(sa.and_(_TRAINS, _HELD_COUNT == 0), sa.and_(sa.not_(_TRAINS), _HELD_COUNT > 0)))
)
_TWO_STEPS = (
    sa.select(hosts.c.name, sa.func.count().label("open"))
    .select_from(
        attempts.join(jobs, jobs.c.id == attempts.c.job_id).join(hosts, hosts.c.id == attempts.c.host_id)
    )
    .where(_OPEN, _STEP)
    .group_by(hosts.c.name)
    .having(sa.func.count() > 1)
)
_MOVED = (
    sa.select(events.c.id, events.c.job_id, events.c.kind)
    .where(events.c.kind.in_({*_MOVES, Note.SUBMITTED}))
    .order_by(events.c.id)
)
_STATES = sa.select(jobs.c.id, jobs.c.state)
_SAID = sa.select(jobs.c.id, jobs.c.state, jobs.c.reason_text, jobs.c.ended_at, jobs.c.cancel_requested_at)
_PLACED = sa.select(attempts.c.id, attempts.c.projection, gpus.c.uuid, gpus.c.memory_bytes).select_from(
    attempts.join(leases).join(gpus, gpus.c.id == leases.c.gpu_id)
)
_LOGGED = sa.select(log_chunks).order_by(log_chunks.c.attempt_id, log_chunks.c.start_byte)
_LOG_BYTES = sa.select(attempts.c.id, attempts.c.log_bytes)
_SHARED_UUIDS = [
    (
        table,
        sa.select(table.c.uuid, sa.func.count().label("count"), sa.func.min(table.c.id).label("first"))
        .group_by(table.c.uuid)
        .having(sa.or_(sa.func.count() > 1, table.c.uuid == "")),
    )
    for table in (jobs, attempts)
]
_UUIDS = sa.select(jobs.c.id, jobs.c.uuid)
_RESUMED = (
    sa.select(attempts.c.id, attempts.c.job_id, attempts.c.resumed, jobs.c.continues)
    .select_from(attempts.join(jobs))
    .where(attempts.c.resumed.is_not(None))
)


def faults(connection: sa.Connection) -> list[str]:
    """Every breach of an invariant, in words. Empty when all is well."""
    return [
        *_leases(connection),
        *_running(connection),
        *_history(connection),
        *_reasons(connection),
        *_links(connection),
        *_projected(connection),
        *_logs(connection),
        *_identity(connection),
    ]


def _leases(connection: sa.Connection) -> Iterator[str]:
    """1: one exclusive open lease a card, or shared ones; and no more promised than it has."""
    for row in connection.execute(_LEASED):
        if row.exclusive and row.open > 1:
            yield f"card {row.uuid}: {row.open} open leases, though {row.exclusive} of them exclusive"
        if row.promised > row.memory_bytes:
            yield f"card {row.uuid}: {row.promised} bytes are promised of {row.memory_bytes}"


def _running(connection: sa.Connection) -> Iterator[str]:
    """2: running if and only if there is one open attempt; an ended one holds nothing, an open one a card, or as a
    step none, and has its host's only place for steps.
    """
    for row in connection.execute(_NOT_ONE_OPEN):
        yield f"job {row.id} is {row.state} with {row.open} open attempts"
    for row in connection.execute(_WRONGLY_HELD):
        yield f"attempt {row.id} ({row.outcome or 'open'}) holds {counted(row.held, 'card')}"
    for row in connection.execute(_TWO_STEPS):
        yield f"host {row.name} runs {row.open} steps at once"


def _history(connection: sa.Connection) -> Iterator[str]:
    """3: replaying the events gives the current state, and nothing moves a job that has ended."""
    replayed: dict[int, JobState] = {}
    for row in connection.execute(_MOVED):
        state = replayed.get(row.job_id)
        if (state is None) != (row.kind == Note.SUBMITTED):
            when = "before" if state is None else "after"
            yield f"job {row.job_id}: event {row.id} ({row.kind}) comes {when} it was submitted"
        elif state is None:
            replayed[row.job_id] = JobState.QUEUED
        else:
            try:
                replayed[row.job_id] = after(state, Event(row.kind))
            except Conflict as error:
                yield f"job {row.job_id}: event {row.id}: {error}"
    for job in connection.execute(_STATES):
        if replayed.get(job.id) != job.state:
            yield f"job {job.id} is {job.state}, but its events say {replayed.get(job.id)}"


def _reasons(connection: sa.Connection) -> Iterator[str]:
    """5: every job has a reason, every ended job an end; a queued one that was cancelled does not stay."""
    for row in connection.execute(_SAID):
        if not row.reason_text:
            yield f"job {row.id} is {row.state} without a reason"
        if (row.state in TERMINAL) != (row.ended_at is not None):
            yield f"job {row.id} is {row.state}, and ended at {row.ended_at}"
        if row.state == JobState.QUEUED and row.cancel_requested_at is not None:
            yield f"job {row.id} is queued, though it was cancelled"


def _links(connection: sa.Connection) -> Iterator[str]:
    """5: no job has started before those that it waits for have ended as it asks."""
    for row in connection.execute(STARTED_EARLY):
        yield f"job {row.job_id} has started, but job {row.after_id}, which it waits for ({row.on}), is {row.state}"


def _projected(connection: sa.Connection) -> Iterator[str]:
    """6: what was placed was projected to fit the cards it was placed on."""
    for row in connection.execute(_PLACED):
        upper = row.projection.get("upper_bytes")
        if upper is None:
            yield f"attempt {row.id} was placed without a projection"
        elif upper > row.memory_bytes:
            yield f"attempt {row.id}: projected at up to {upper} bytes, on {row.uuid} of {row.memory_bytes}"


def _logs(connection: sa.Connection) -> Iterator[str]:
    """7: the stored log has no hole and no overlap."""
    ends: dict[int, int] = {}
    for row in connection.execute(_LOGGED):
        end = ends.get(row.attempt_id, 0)
        if row.start_byte != end:
            yield f"attempt {row.attempt_id}: its log jumps from byte {end} to {row.start_byte}"
        ends[row.attempt_id] = row.start_byte + len(row.text.encode())
    for found in connection.execute(_LOG_BYTES):
        if found.log_bytes != ends.get(found.id, 0):
            stored = ends.get(found.id, 0)
            yield f"attempt {found.id}: {stored} bytes of log are stored, {found.log_bytes} acknowledged"


def _identity(connection: sa.Connection) -> Iterator[str]:
    """8: each job and attempt has a uuid of its own, and goes on from no checkpoint but its job's."""
    for table, shared in _SHARED_UUIDS:
        for row in connection.execute(shared):
            has = f"the uuid {row.uuid}" if row.uuid else "no uuid"
            yield f"{row.count} of {table.name} have {has}, first {row.first}"
    uuids = dict(connection.execute(_UUIDS).all())
    for row in connection.execute(_RESUMED):
        found = row.resumed.get("job_uuid")
        if found and found not in (uuids[row.job_id], uuids.get(row.continues)):
            yield f"attempt {row.id} went on from a checkpoint of another job (uuid {found})"
