"""What hosts say of the end of an attempt, kept until the controller acts on it.

attempts.reported holds an Ended of the one host; of an attempt over several {"hosts": [[host id, Ended], ..]}, in the
order in which they came.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from jobs.messages.reports import Ended
from orchestrator.store.schema.tables import attempts, gpus, leases


def parts_of(connection: sa.Connection, attempt_ids: Collection[int]) -> dict[int, set[int]]:
    """By attempt, the hosts that take part: where its cards are, and the one that leads it."""
    found: dict[int, set[int]] = {}
    for ids in reads.chunks(attempt_ids):
        leads = sa.select(attempts.c.id, attempts.c.host_id).where(attempts.c.id.in_(ids))
        holds = (
            sa.select(leases.c.attempt_id, gpus.c.host_id)
            .select_from(leases.join(gpus))
            .where(leases.c.attempt_id.in_(ids))
        )
        for attempt_id, host_id in connection.execute(leads.union(holds)):
            found.setdefault(attempt_id, set()).add(host_id)
    return found


def report_end(
    connection: sa.Connection, attempt_id: int, host_id: int, ended: Ended, parts: Collection[int]
) -> None:
    """Notes the end on one of the hosts (parts) of an open attempt. The first word of each counts."""
    if host_id not in parts:
        return
    is_open = sa.and_(attempts.c.id == attempt_id, attempts.c.outcome.is_(None))
    said: dict[str, Any] = ended.model_dump(mode="json")
    if len(parts) == 1:
        connection.execute(
            attempts.update().where(is_open, attempts.c.reported.is_(None)).values(reported=said)
        )
        return
    query = sa.select(attempts.c.reported).where(is_open).with_for_update(key_share=True)
    row = connection.execute(query).one_or_none()
    if row is None:
        return
    before = (row.reported or {}).get("hosts", [])
    if all(other != host_id for other, _ in before):
        everything = {"hosts": [*before, [host_id, said]]}
        connection.execute(attempts.update().where(is_open).values(reported=everything))
