"""Who is told of what, and the outbox of notices."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
import orchestrator.store.unreadable as unreadable
from jobs.errors import NotFound
from orchestrator.store.engine.database import Database
from orchestrator.store.requests import Actor, Note
from orchestrator.store.schema.notice_tables import notices
from orchestrator.store.schema.notice_tables import notify_targets as targets
from orchestrator.store.sealed_rows import NoticeRow, TargetRow

AT_ONCE = 100


class NoticeStore(Database):
    """Targets of notifications and what they are still to be told."""

    def targets(self) -> list[TargetRow]:
        with self.read() as connection:
            found = connection.execute(sa.select(targets).order_by(targets.c.id))
            return unreadable.rows(
                "target", found, targets, lambda row: row.id, lambda row: TargetRow(**row._mapping)
            )

    def add_target(self, row: TargetRow, now: float, actor: Actor | None = None) -> int:
        """Stores it under a new id."""
        values = {name: value for name, value in vars(row).items() if name != "id"}
        with self.write() as connection:
            made: int = connection.execute(
                targets.insert().values(**values).returning(targets.c.id)
            ).scalar_one()
            text = f"notifications go to {row.host} (target {made})"
            reads.note(connection, now, Note.TARGET_ADDED, text, data={"target": made}, actor=actor)
        return made

    def remove_target(self, target_id: int, now: float, actor: Actor | None = None) -> None:
        """With what it is still to be told. Raises NotFound."""
        with self.write() as connection:
            connection.execute(notices.delete().where(notices.c.target_id == target_id))
            if not connection.execute(targets.delete().where(targets.c.id == target_id)).rowcount:
                raise NotFound(
                    f"there is no target {target_id}; `tuneyard notify list` shows those there are"
                )
            text = f"target {target_id} gets no more notifications"
            reads.note(connection, now, Note.TARGET_REMOVED, text, data={"target": target_id}, actor=actor)

    def add_notice(self, target_id: int, kind: str, text: str, now: float) -> None:
        """One for this target alone. Raises NotFound."""
        values = {"ts": now, "kind": kind, "text": text, "tries": 0, "next_at": now}
        with self.write() as connection:
            if connection.execute(sa.select(targets.c.id).where(targets.c.id == target_id)).first() is None:
                raise NotFound(
                    f"there is no target {target_id}; `tuneyard notify list` shows those there are"
                )
            connection.execute(notices.insert().values(target_id=target_id, **values))

    def waiting_notices(self) -> dict[int, int]:
        """How many each target is still to be told."""
        query = sa.select(notices.c.target_id, sa.func.count().label("waiting")).group_by(notices.c.target_id)
        with self.read() as connection:
            return {row.target_id: row.waiting for row in connection.execute(query)}

    def due_notices(self, now: float) -> list[NoticeRow]:
        """With where they go, oldest first."""
        query = (
            sa.select(
                notices, targets.c.uid, targets.c.kind.label("target_kind"), targets.c.key_id, targets.c.box
            )
            .join_from(notices, targets)
            .where(notices.c.next_at <= now)
            .order_by(notices.c.id)
            .limit(AT_ONCE)
        )
        with self.read() as connection:
            return [NoticeRow(**row._mapping) for row in connection.execute(query)]

    def notice_sent(self, notice_id: int) -> None:
        with self.write() as connection:
            connection.execute(notices.delete().where(notices.c.id == notice_id))

    def retry_notice(self, notice_id: int, tries: int, next_at: float) -> None:
        with self.write() as connection:
            changed = notices.update().where(notices.c.id == notice_id).values(tries=tries, next_at=next_at)
            connection.execute(changed)

    def give_up_notice(self, row: NoticeRow, text: str, now: float) -> None:
        """The event says so."""
        with self.write() as connection:
            if connection.execute(notices.delete().where(notices.c.id == row.id)).rowcount:
                data: dict[str, Any] = {"target": row.target_id, "tries": row.tries + 1}
                reads.note(connection, now, Note.NOTICE_LOST, text, job_id=row.job_id, data=data)
