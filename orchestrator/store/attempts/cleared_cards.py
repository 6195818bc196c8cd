"""Cards that jobs gave back when they were stopped for others that still wait."""

from __future__ import annotations

import sqlalchemy as sa

from jobs.state import JobState
from orchestrator.store.schema.tables import attempts, jobs, leases

KEPT_S = 600.0  # a card that its job did not take for so long is anybody's

_later = leases.alias("later")
_CLEARED = (
    sa.select(leases.c.gpu_id, attempts.c.stop_for)
    .select_from(attempts.join(leases).join(jobs, jobs.c.id == attempts.c.stop_for))
    .where(attempts.c.stop_for.is_not(None), attempts.c.ended_at > sa.bindparam("since", type_=sa.Double))
    # Since it was asked, the other has waited in one go, and nobody else has had the card.
    .where(jobs.c.state == JobState.QUEUED, jobs.c.queued_at <= attempts.c.stop_requested_at)
    .where(~sa.exists().where(_later.c.gpu_id == leases.c.gpu_id, _later.c.attempt_id > leases.c.attempt_id))
    .order_by(leases.c.gpu_id)
)


def cleared(connection: sa.Connection, now: float) -> dict[int, int]:
    """Cards by id, each with the queued job that it was cleared for. What nobody asked for lately is left out."""
    found = connection.execute(_CLEARED, {"since": now - KEPT_S})
    return {row.gpu_id: row.stop_for for row in found}
