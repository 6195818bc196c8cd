"""Whether cards did anything lately, from their minutes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

import orchestrator.store.reads as reads
from orchestrator.store.engine.database import Database
from orchestrator.store.history.fields import CARD, MINUTE_S, SCALES
from orchestrator.store.schema.tables import history

# A card that was never busier in a step of history did nothing.
IDLE_BELOW = 0.05


@dataclass(frozen=True)
class Activity:
    """Of one card: minutes that are known, how many of them it was busy in, or nobody can tell, and when the newest
    of them begins.
    """

    minutes: int
    busy: int
    newest: float


class ActivityStore(Database):
    """Activity."""

    def activity(self, gpu_ids: Collection[int], since: float, until: float) -> dict[int, Activity]:
        """Of these cards, from whole minutes in that span; those of which there are none are left out."""
        busy = sa.or_(
            history.c.utilization_max.is_(None),
            history.c.utilization_max >= int(IDLE_BELOW * SCALES["utilization"]),
        )
        query = (
            sa.select(
                history.c.subject_id,
                sa.func.count(),
                sa.func.sum(sa.case((busy, 1), else_=0)),
                sa.func.max(history.c.ts),
            )
            .where(history.c.scope == CARD, history.c.width_s == MINUTE_S)
            .where(history.c.ts >= since, history.c.ts <= until - MINUTE_S)
            .group_by(history.c.subject_id)
        )
        with self.read() as connection:
            return {
                gpu_id: Activity(minutes, busy_in, newest)
                for ids in reads.chunks(gpu_ids)
                for gpu_id, minutes, busy_in, newest in connection.execute(
                    query.where(history.c.subject_id.in_(ids))
                )
            }
