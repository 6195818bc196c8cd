"""Hosts on which no trainer can start, whatever the job: noted, and forgotten once one did or the agent joins again."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from jobs.state import Outcome
from orchestrator.store.engine.database import Database
from orchestrator.store.requests import Note
from orchestrator.store.schema.tables import attempts, gpus, hosts, leases

NO_FAULT: dict[str, Any] = {"fault": None, "fault_at": None, "fault_times": 0}
_WELL = (
    hosts.update().where(hosts.c.id == sa.bindparam("host"), hosts.c.fault.is_not(None)).values(**NO_FAULT)
)
LAST = 20  # attempts of a host that are looked at


class HostFaultStore(Database):
    """What attempts tell of their hosts."""

    def not_started_in_a_row(self, host_id: int, but: int, since: float) -> int:
        """On how many of a host's last attempts, but this one, nothing came up. since: those that were opened then."""
        here = sa.select(leases.c.attempt_id).select_from(leases.join(gpus)).where(gpus.c.host_id == host_id)
        last = (
            sa.select(attempts.c.outcome, attempts.c.started_at)
            .where(attempts.c.id.in_(here), attempts.c.id != but, attempts.c.opened_at >= since)
            .where(sa.or_(attempts.c.outcome.is_not(None), attempts.c.started_at.is_not(None)))
            .order_by(attempts.c.id.desc())
            .limit(LAST)
        )
        count = 0
        with self.read() as connection:
            for row in connection.execute(last):
                if row.outcome != Outcome.NOT_STARTED or row.started_at is not None:
                    break
                count += 1
        return count


def note_fault(connection: sa.Connection, host_ids: Collection[int], text: str, now: float) -> None:
    """A trainer could not start on these hosts, once more."""
    for host_id in sorted(host_ids):
        again = {"fault": text, "fault_at": now, "fault_times": hosts.c.fault_times + 1}
        connection.execute(hosts.update().where(hosts.c.id == host_id).values(again))
        reads.note(connection, now, Note.HOST_FAULT, text, host_id=host_id)


def forget_fault(connection: sa.Connection, host_id: int) -> None:
    """A trainer did start there."""
    connection.execute(_WELL, {"host": host_id})
