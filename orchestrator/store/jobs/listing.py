"""Lists of jobs as people ask for them: filtered, sorted and cut in the database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from jobs.errors import UsageError
from jobs.state import JobState
from orchestrator.store.engine.database import Database
from orchestrator.store.jobs.views import views_of
from orchestrator.store.rows import JobView
from orchestrator.store.schema.tables import attempts, jobs, progress

_GLOB_PARTS = re.compile(r"\*+|\?|\[[!^]?+\]?+[^\]]*\]|[^*?\[]+|\[")

# The newest line of a job's newest attempt: two index look-ups a job.
_NEWEST = (
    sa.select(attempts.c.id)
    .where(attempts.c.job_id == jobs.c.id)
    .order_by(attempts.c.number.desc())
    .limit(1)
    .correlate(jobs)
    .scalar_subquery()
)
_LOSS = (
    sa.select(progress.c.loss)
    .where(progress.c.attempt_id == _NEWEST)
    .order_by(progress.c.step.desc())
    .limit(1)
    .correlate(jobs)
    .scalar_subquery()
)
_STATE = sa.case({str(state): number for number, state in enumerate(JobState)}, value=jobs.c.state)


def _gpus(sqlite: bool) -> sa.ColumnElement[Any]:
    """Of a spec that is no JSON: none. Both databases raise where they are asked to read such a text."""
    found = sa.func.json_extract(jobs.c.spec, "$.resources.gpus")
    text: sa.ColumnElement[Any] = (
        sa.case((sa.func.json_valid(jobs.c.spec) == 1, found))
        if sqlite  # PostgreSQL tells what is JSON from version 16 on
        else sa.func.substring(jobs.c.spec, r'"resources":\s*\{[^{}]*"gpus":\s*([0-9]{1,9})')
    )
    return sa.func.coalesce(sa.cast(text, sa.Integer), 1)


_SORTS: dict[str, Callable[[bool], sa.ColumnElement[Any]]] = {
    "id": lambda sqlite: jobs.c.id,
    "name": lambda sqlite: jobs.c.name,
    "group": lambda sqlite: jobs.c.group_id,
    "user": lambda sqlite: jobs.c.user,
    "project": lambda sqlite: jobs.c.project,
    "state": lambda sqlite: _STATE,
    "priority": lambda sqlite: jobs.c.priority,
    "gpus": _gpus,
    "loss": lambda sqlite: _LOSS,
    "submitted": lambda sqlite: jobs.c.submitted_at,
    "started": lambda sqlite: jobs.c.started_at,
    "ended": lambda sqlite: jobs.c.ended_at,
}
SORTS = tuple(_SORTS)


@dataclass(frozen=True)
class Wanted:
    """Which jobs, and in which order. name: a pattern with * ? [abc]; since: submitted then or later, Unix seconds;
    sort: one of SORTS, with a minus in front for the greatest first. Jobs without the value come last either way.
    """

    states: frozenset[JobState] | None = None
    group: int | None = None
    project: str | None = None
    user: str | None = None
    name: str | None = None
    since: float | None = None
    sort: str = "-id"

    def __post_init__(self) -> None:
        if self.sort.removeprefix("-") not in SORTS:
            raise UsageError(f"sort: {self.sort!r} is no column to sort by; use {', '.join(SORTS)}")


@dataclass(frozen=True)
class Listing:
    """A page of jobs. more: others follow; total: how many there are on all pages."""

    views: list[JobView]
    more: bool
    total: int


class ListingStore(Database):
    """Lists of jobs."""

    def listing(self, wanted: Wanted, limit: int = 50, before: int | None = None, offset: int = 0) -> Listing:
        """A page of the jobs, each with its latest attempt, progress and links.

        before: only ids below it, for the next page of the newest first; offset: rows to pass over, in any order.
        """
        matching = self._matching(wanted)
        page = sa.select(jobs).where(*matching).order_by(*self._order(wanted.sort))
        if before is not None:
            page = page.where(jobs.c.id < before)
        count = sa.select(sa.func.count()).select_from(jobs).where(*matching)
        with self.read() as connection:
            rows = reads.job_rows(connection, page.limit(limit + 1).offset(offset))
            total = connection.execute(count).scalar_one()
            return Listing(views_of(connection, rows[:limit]), len(rows) > limit, total)

    def _matching(self, wanted: Wanted) -> list[sa.ColumnElement[bool]]:
        found: list[sa.ColumnElement[bool]] = []
        if wanted.states is not None:
            found.append(jobs.c.state.in_(sorted(wanted.states)))
        for column, value in (
            (jobs.c.group_id, wanted.group),
            (jobs.c.project, wanted.project),
            (jobs.c.user, wanted.user),
        ):
            if value is not None:
                found.append(column == value)
        if wanted.since is not None:
            found.append(jobs.c.submitted_at >= wanted.since)
        if wanted.name is not None:
            found.append(self._named(wanted.name))
        return found

    def _named(self, pattern: str) -> sa.ColumnElement[bool]:
        """Both tell capitals from small letters, as LIKE of SQLite would not."""
        parts = _GLOB_PARTS.findall(pattern)
        if self.is_sqlite:
            return jobs.c.name.op("GLOB")("".join(map(_as_glob, parts)))
        return jobs.c.name.op("~")(f"^(?:{''.join(map(_as_regex, parts))})$")

    def _order(self, sort: str) -> Sequence[sa.ColumnElement[Any]]:
        key = sort.removeprefix("-")
        by = _SORTS[key](self.is_sqlite)
        way = by.desc() if sort.startswith("-") else by.asc()
        if key == "id":
            return [way]
        if key == "name" and not self.is_sqlite:  # by code point, as SQLite has it
            way = sa.collate(by, "C").desc() if sort.startswith("-") else sa.collate(by, "C").asc()
        return [by.is_(None), way, jobs.c.id.desc()]


def _as_glob(part: str) -> str:
    """A part of a pattern as SQLite has it: [^a] where people also write [!a], and no bracket that is left open."""
    if part == "[":
        return "[[]"
    return f"[^{part[2:]}" if part.startswith("[!") else part


def _as_regex(part: str) -> str:
    """The same as a regular expression of PostgreSQL."""
    if part.startswith("*"):
        return ".*"
    if part == "?":
        return "."
    if len(part) == 1 or not part.startswith("["):
        return re.sub(r"([^\w\s])", r"\\\1", part)
    negated = part[1] in "!^"
    pairs = [f"{_code(low)}-{_code(high)}" for low, high in _pairs(part[1 + negated : -1])]
    return f"[{'^' if negated else ''}{''.join(pairs)}]"


def _pairs(inner: str) -> Iterator[tuple[str, str]]:
    """First and last character of each range between two brackets, read as SQLite 3.40 does (patternCompare)."""
    at = 0
    while at < len(inner):
        low = inner[at]
        if inner[at + 1 : at + 2] == "-" and at + 2 < len(inner):
            yield low, max(low, inner[at + 2])
            at += 3
        else:
            yield low, low
            at += 1


def _code(character: str) -> str:
    return f"\\U{ord(character):08x}"
