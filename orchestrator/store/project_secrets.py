"""Secrets of projects, sealed: this never sees what they say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
import orchestrator.store.unreadable as unreadable
from jobs.errors import NotFound
from orchestrator.store.engine.database import Database
from orchestrator.store.requests import Actor, Note
from orchestrator.store.schema.secret_tables import project_secrets as table
from orchestrator.store.sealed_rows import SecretRow


class SecretStore(Database):
    """What is sealed for projects."""

    def secrets(self, project: str | None = None) -> list[SecretRow]:
        """Those of one project, or of all, by project and name."""
        query = sa.select(table).order_by(table.c.project, table.c.name)
        if project is not None:
            query = query.where(table.c.project == project)
        with self.read() as connection:
            found = connection.execute(query)
            return unreadable.rows("secret", found, table, _key, lambda row: SecretRow(**row._mapping))

    def secret_names(self, projects: Iterable[str]) -> set[tuple[str, str]]:
        """Pairs of a project and a name, of these projects."""
        query = sa.select(table.c.project, table.c.name).where(table.c.project.in_(list(projects)))
        with self.read() as connection:
            return {(row.project, row.name) for row in connection.execute(query)}

    def set_secret(self, row: SecretRow, actor: Actor | None = None) -> None:
        """Stores it, in place of one of that name."""
        values = vars(row)
        made = self.upsert(table).values(**values)
        known = made.on_conflict_do_update(index_elements=[table.c.project, table.c.name], set_=values)
        with self.write() as connection:
            connection.execute(known)
            text = f"secret {row.name} of project {row.project} was set"
            data = {"project": row.project, "name": row.name}
            reads.note(connection, row.set_at, Note.SECRET_SET, text, data=data, actor=actor)

    def remove_secret(self, project: str, name: str, now: float, actor: Actor | None = None) -> None:
        """Raises NotFound."""
        gone = table.delete().where(table.c.project == project, table.c.name == name)
        with self.write() as connection:
            if not connection.execute(gone).rowcount:
                raise NotFound(
                    f"project {project} has no secret {name}; `tuneyard secret list` shows those there are"
                )
            text = f"secret {name} of project {project} was removed"
            data = {"project": project, "name": name}
            reads.note(connection, now, Note.SECRET_REMOVED, text, data=data, actor=actor)


def _key(row: Any) -> str:
    return f"{row.project}/{row.name}"
