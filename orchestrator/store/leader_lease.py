"""Which server of a database leads: the one that decides. Its epoch is checked in the transaction of each decision.

No clock is compared with another's: a leader beats by raising a number, and who stands by sees that it no longer rises.
A decision raises it too, and holds the row until it is committed: a takeover comes after it, or before it,
and it is refused.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Self

import sqlalchemy as sa

from jobs.errors import Deposed
from orchestrator.store.engine.database import Database
from orchestrator.store.schema.tables import leader

# PostgreSQL ends a decision's transaction that says nothing for so long, as of a process that was stopped within it.
IDLE_S = 4.0
_SET_IDLE = sa.select(
    sa.func.set_config("idle_in_transaction_session_timeout", str(int(IDLE_S * 1000)), True)
)
_BEAT = leader.update().values(beat=leader.c.beat + 1)


@dataclass(frozen=True)
class Candidate:
    """A server that may lead. holder: a uuid of this process; place: of the lock that it holds while it runs, so that
    one that has that lock knows that it has ended; url, host: for people.
    """

    holder: str
    place: str
    url: str
    host: str


@dataclass(frozen=True)
class Lead:
    """The row as it is. holder: None: nobody leads; since: when it took over, Unix seconds; ray_address: its head's."""

    epoch: int
    beat: int
    holder: str | None
    place: str
    url: str
    host: str
    since: float
    ray_address: str | None


class Fence:
    """What a leader's writes go through. epoch: in which it leads, None: it does not."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self.epoch: int | None = None

    def admit(self, connection: sa.Connection) -> None:
        """Lets the transaction on this connection decide. Raises Deposed where its server no longer leads."""
        if self.epoch is None:
            raise Deposed("this server does not lead: it decides nothing")
        if connection.dialect.name == "postgresql":
            connection.execute(_SET_IDLE)
        mine = _BEAT.where(leader.c.holder == self.holder, leader.c.epoch == self.epoch)
        if not connection.execute(mine).rowcount:
            epoch, self.epoch = self.epoch, None
            raise Deposed(f"this server no longer leads: another took over after epoch {epoch}")


class LeadStore(Database):
    """The lease of who leads."""

    def for_leader(self, fence: Fence) -> Self:
        """The same database, of which every write is a decision: it goes through the fence."""
        led = copy.copy(self)
        led._admit = fence.admit
        return led

    def lead(self) -> Lead:
        """Who leads."""
        columns = [column for column in leader.c if column.name != "id"]
        with self.read() as connection:
            return Lead(**connection.execute(sa.select(*columns)).one()._mapping)

    def take_lead(self, me: Candidate, seen: Lead, now: float) -> int | None:
        """Leads from here on. The new epoch, None where anything moved since `seen` was read."""
        same = [leader.c[name] == getattr(seen, name) for name in ("epoch", "beat")]
        same.append(leader.c.holder.is_(None) if seen.holder is None else leader.c.holder == seen.holder)
        values: dict[str, Any] = {"holder": me.holder, "place": me.place, "url": me.url, "host": me.host}
        values |= {"epoch": seen.epoch + 1, "beat": seen.beat + 1, "since": now, "ray_address": None}
        with self.write() as connection:
            taken = connection.execute(leader.update().where(*same).values(values))
        return seen.epoch + 1 if taken.rowcount else None

    def keep_lead(self, ray_address: str | None) -> None:
        """Says that it still leads, and where its Ray head is. Raises Deposed. Of for_leader()'s store alone."""
        with self.write() as connection:
            connection.execute(leader.update().values(ray_address=ray_address))

    def release_lead(self) -> None:
        """Gives up the lead: another may at once. Raises Deposed where one does. Of for_leader()'s store alone."""
        with self.write() as connection:
            connection.execute(leader.update().values(holder=None, ray_address=None))


def forget_leader(connection: sa.Connection) -> None:
    """Of a database that was restored: nobody leads, even if a server did when the backup was made."""
    connection.execute(leader.update().values(holder=None, ray_address=None))
