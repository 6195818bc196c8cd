"""Hosts on which no trainer can start, whatever the job: noted, and forgotten once one did or the agent joins anew."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from orchestrator.store.requests import Note
from orchestrator.tables import hosts

NO_FAULT: dict[str, Any] = {"fault": None, "fault_at": None, "fault_times": 0}


def note_fault(connection: sa.Connection, host_ids: Collection[int], text: str, now: float) -> None:
    """A trainer could not start on these hosts, once more."""
    for host_id in sorted(host_ids):
        again = {"fault": text, "fault_at": now, "fault_times": hosts.c.fault_times + 1}
        connection.execute(hosts.update().where(hosts.c.id == host_id).values(again))
        reads.note(connection, now, Note.HOST_FAULT, text, host_id=host_id)


def forget_fault(connection: sa.Connection, host_id: int) -> None:
    """A trainer did start there."""
    well = hosts.update().where(hosts.c.id == host_id, hosts.c.fault.is_not(None))
    connection.execute(well.values(NO_FAULT))
