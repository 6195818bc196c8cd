"""Curves of a training: progress and evaluations of all its attempts, thinned so that a long job stays small."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from orchestrator.store.engine.database import Database
from orchestrator.store.history.curves import EVALUATIONS, PROGRESS, kept_rows
from orchestrator.store.rows import EvaluationRow, ProgressRow
from orchestrator.store.schema.tables import attempts, evaluations, jobs, progress

# Of an attempt's lines, by step: more than MOST, and they are thinned until their steps lie in at most KEEP stretches.
MOST = 1200
KEEP = 240  # of each up to four lines
LOOK_EVERY = 100  # lines that come before they are counted again
_MOST_COUNTED = 10_000  # attempts


@dataclass(frozen=True)
class AttemptSeries:
    """What one attempt told, by step. number: within its job."""

    number: int
    progress: tuple[ProgressRow, ...]
    evaluations: tuple[EvaluationRow, ...]


class SeriesStore(Database):
    """Curves."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._new_lines: Counter[int] = Counter()  # of attempts, since they were counted last

    def series(self, job_id: int) -> list[AttemptSeries]:
        """The attempts of a job that are a part of what it came to, in their order.

        An attempt that goes on from a checkpoint trains the steps after it again: what earlier ones told of those
        is left out.
        """
        with self.read() as connection:
            query = sa.select(attempts.c.id, attempts.c.number).where(attempts.c.job_id == job_id)
            known = connection.execute(query.order_by(attempts.c.number)).all()
            ids = [row.id for row in known]
            lines = _by_attempt(connection, progress, ids, ProgressRow)
            tests = _by_attempt(connection, evaluations, ids, EvaluationRow)
            lines |= _kept(connection, PROGRESS, ids, ProgressRow)
            tests |= _kept(connection, EVALUATIONS, ids, EvaluationRow)
        found: list[AttemptSeries] = []
        begins: int | None = None  # the first step of a later attempt
        for row in reversed(known):
            kept = [line for line in lines.get(row.id, ()) if begins is None or line.step < begins]
            tested = [test for test in tests.get(row.id, ()) if begins is None or test.step < begins]
            found.append(AttemptSeries(row.number, tuple(kept), tuple(tested)))
            begins = min([line.step for line in (*kept, *tested)], default=begins)
        return found[::-1]

    def thin_lines(self, connection: sa.Connection, came: Mapping[int, int]) -> None:
        """Thins the lines of attempts that have many. came: how many new ones, by attempt."""
        if len(self._new_lines) > _MOST_COUNTED:
            self._new_lines.clear()
        due = []
        for attempt_id, count in came.items():
            known = attempt_id in self._new_lines
            self._new_lines[attempt_id] += count
            if not known or self._new_lines[attempt_id] >= LOOK_EVERY:
                self._new_lines[attempt_id] = 0
                due.append(attempt_id)
        for table in (progress, evaluations):
            for attempt_id, first, last in _long(connection, table, due):
                _thin(connection, table, attempt_id, first, last)


def _by_attempt(
    connection: sa.Connection, table: sa.Table, ids: Collection[int], kind: type[Any]
) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for some in reads.chunks(ids):
        query = sa.select(table).where(table.c.attempt_id.in_(some)).order_by(table.c.step)
        for row in reads.lines_of(kind, table, connection.execute(query)):
            found.setdefault(row.attempt_id, []).append(row)
    return found


def _kept(
    connection: sa.Connection, kind: str, ids: Collection[int], made: type[Any]
) -> dict[int, list[Any]]:
    """Of attempts whose rows are gone, as their curves have them."""
    names = {one.name for one in fields(made)}
    return {
        attempt_id: [made(**{name: value for name, value in row.items() if name in names}) for row in rows]
        for attempt_id, rows in kept_rows(connection, kind, ids).items()
    }


def _long(connection: sa.Connection, table: sa.Table, ids: Collection[int]) -> list[tuple[int, int, int]]:
    """Of these attempts those with more than MOST lines, with their first and last step: one statement for all, for
    a server that starts asks it of each attempt of the fleet.
    """
    attempt, step = table.c.attempt_id, table.c.step
    query = sa.select(attempt, sa.func.min(step), sa.func.max(step)).group_by(attempt)
    query = query.having(sa.func.count() > MOST)
    return [
        (attempt_id, first, last)
        for some in reads.chunks(ids)
        for attempt_id, first, last in connection.execute(query.where(attempt.in_(some)))
    ]


def _thin(connection: sa.Connection, table: sa.Table, attempt_id: int, first: int, last: int) -> None:
    """Keeps of each stretch of steps the first line, those of the least and the greatest loss, and the first whose loss
    is no number; the last line of all, and the one by which a sweep stops its worst. A spike of one step stays:
    stretches are of a power of two, so that thinning again keeps what stood out.
    """
    mine, step = table.c.attempt_id == attempt_id, table.c.step
    width = 1
    while last // width - first // width >= KEEP:
        width *= 2
    stretches = sa.select(sa.func.min(step)).where(mine).group_by(step // width)
    keep = sa.union(
        stretches,
        stretches.where(table.c.loss.is_(None)),
        *(_extreme(table, mine, width, order) for order in (table.c.loss.asc(), table.c.loss.desc())),
        sa.select(sa.literal(last)),
    )
    if (compared := _compared(connection, attempt_id)) is not None:
        at = sa.select(sa.func.min(step)).where(mine, step >= compared, table.c.loss.is_not(None))
        keep = sa.union(*keep.selects, at.having(sa.func.min(step).is_not(None)))
    connection.execute(table.delete().where(mine, step.not_in(keep)))


def _extreme(
    table: sa.Table, mine: sa.ColumnElement[bool], width: int, order: sa.ColumnElement[Any]
) -> sa.Select[Any]:
    """The step of each stretch whose loss comes first in an order."""
    step = table.c.step
    place = sa.func.row_number().over(partition_by=step // width, order_by=[order, step])
    ranked = (
        sa.select(step.label("step"), place.label("place")).where(mine, table.c.loss.is_not(None)).subquery()
    )
    return sa.select(ranked.c.step).where(ranked.c.place == 1)


def _compared(connection: sa.Connection, attempt_id: int) -> int | None:
    """The step at which the job's sweep compares losses (see group_losses)."""
    query = sa.select(jobs).join(attempts, attempts.c.job_id == jobs.c.id).where(attempts.c.id == attempt_id)
    (job,) = reads.job_rows(connection, query)
    early = (job.spec.get("sweep") or {}).get("early_stop") or {}
    found: int | None = early.get("after_steps")
    return found
