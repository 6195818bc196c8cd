"""Projects with terms of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
import orchestrator.store.unreadable as unreadable
from jobs.errors import NotFound
from jobs.state import JobState
from jobs.units import counted
from orchestrator.store.engine.database import Database
from orchestrator.store.requests import Actor, Note
from orchestrator.store.rows import ProjectRow
from orchestrator.store.schema.column_types import Garbled
from orchestrator.store.schema.tables import attempts, jobs, leases, projects


class ProjectStore(Database):
    """Terms of projects, and what each of them holds."""

    def projects(self) -> list[ProjectRow]:
        """The projects with terms of their own, by name."""
        with self.read() as connection:
            return project_rows(connection)

    def set_project(
        self, name: str, terms: Mapping[str, Any], now: float, actor: Actor | None = None
    ) -> ProjectRow:
        """Changes the terms of a project (fields of ProjectRow) and leaves the others as they are, or makes it."""
        with self.write() as connection:
            made = self.upsert(projects).values(**vars(ProjectRow(name, **terms)))
            # A new row has every term; one that is there takes those that were named.
            known = made.on_conflict_do_update(index_elements=[projects.c.name], set_={"name": name, **terms})
            connection.execute(known)
            row = project_rows(connection, projects.c.name == name)[0]
            text = f"project {name}: {_terms(row)}"
            reads.note(connection, now, Note.PROJECT_SET, text, data=vars(row), actor=actor)
        return row

    def remove_project(self, name: str, now: float, actor: Actor | None = None) -> None:
        """Takes a project's terms away; its jobs go on without. Raises NotFound."""
        with self.write() as connection:
            if not connection.execute(projects.delete().where(projects.c.name == name)).rowcount:
                raise NotFound(
                    f"no project {name!r} has terms of its own; `tuneyard project list` shows those that do"
                )
            text = f"project {name} has no terms any more"
            reads.note(connection, now, Note.PROJECT_REMOVED, text, data={"name": name}, actor=actor)

    def project_loads(self) -> dict[str, tuple[int, int]]:
        """Queued jobs, and GPUs held, of each project that has any."""
        waiting = (
            sa.select(jobs.c.project, sa.func.count())
            .where(jobs.c.state == JobState.QUEUED)
            .group_by(jobs.c.project)
        )
        holding = (
            sa.select(jobs.c.project, sa.func.count())
            .select_from(leases.join(attempts).join(jobs, jobs.c.id == attempts.c.job_id))
            .where(leases.c.released_at.is_(None))
            .group_by(jobs.c.project)
        )
        with self.read() as connection:
            queued, held = (_counts(connection.execute(query)) for query in (waiting, holding))
        return {name: (queued.get(name, 0), held.get(name, 0)) for name in sorted({*queued, *held})}


def project_rows(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[ProjectRow]:
    """Projects by name."""
    query = sa.select(projects).where(*conditions).order_by(projects.c.name)
    found = connection.execute(query)
    return unreadable.rows(
        "project", found, projects, attrgetter("name"), lambda row: ProjectRow(**row._mapping)
    )


def _counts(found: Iterable[Any]) -> dict[str, int]:
    return dict(unreadable.each("project", found, lambda row: row[0], _count))


def _count(row: Any) -> tuple[str, int]:
    name, count = row
    if not isinstance(name, str):
        raise Garbled("jobs name a project that is no text")
    return name, count


def _terms(row: ProjectRow) -> str:
    guarantee = "no guarantee" if row.guarantee is None else f"{counted(row.guarantee, 'GPU')} guaranteed"
    return f"{guarantee}, weight {row.weight:g}, {'borrows' if row.borrows else 'does not borrow'}"
