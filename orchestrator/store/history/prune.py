"""What goes once it was taken up: samples after a day, minutes after a month, quarters of an hour after years.

Samples go by whole quarters of an hour, and only of cards whose minutes hold every one of them: what is missing there
is made again first.
"""

from __future__ import annotations

import sqlalchemy as sa

from orchestrator.store.history import raw
from orchestrator.store.history.fields import CARD, FLEET, FLEET_ID, HOST, MINUTE_S, QUARTER_S
from orchestrator.store.history.rollup import (
    MINUTES,
    MINUTES_GONE,
    SAMPLES_GONE,
    RollupStore,
    remake,
    set_state,
    state,
)
from orchestrator.store.schema.tables import gpus, history, history_late, hosts, samples


class PruneStore(RollupStore):
    """What goes."""

    def prune_samples(self, before: float) -> int:
        """Deletes samples older than before, a card at a time so that nobody waits long. Returns how many."""
        with self.read() as connection:
            made = state(connection, MINUTES)
            if made is None:
                return 0
            until = int(min(before, made) // QUARTER_S) * QUARTER_S
            oldest = (
                sa.select(sa.func.min(samples.c.ts)).where(samples.c.gpu_id == gpus.c.id).scalar_subquery()
            )
            stale = connection.execute(sa.select(gpus.c.id, oldest).where(oldest < until)).all()
            gone = state(connection, SAMPLES_GONE) or 0
        for gpu_id, first in stale:
            with self.write() as connection:
                for ts in _lacking(connection, gpu_id, max(int(first // QUARTER_S) * QUARTER_S, gone), until):
                    remake(connection, [gpu_id], [ts])
        if stale:  # from here on what comes late is added to what is kept
            with self.write() as connection:
                set_state(connection, SAMPLES_GONE, max(until, gone))
        return sum(self._drop_samples(gpu_id, until) for gpu_id, _ in stale)

    def _drop_samples(self, gpu_id: int, until: int) -> int:
        mine = sa.and_(history_late.c.gpu_id == gpu_id, history_late.c.ts < until)
        with self.write() as connection:
            came_late = connection.execute(sa.select(history_late.c.ts).where(mine)).scalars().all()
            remake(connection, [gpu_id], came_late)
            connection.execute(history_late.delete().where(mine))
            old = samples.delete().where(samples.c.gpu_id == gpu_id, samples.c.ts < until)
            return connection.execute(old).rowcount

    def prune_minutes(self, minutes_before: float, quarters_before: float) -> int:
        """Deletes steps of history that began before, some subjects at a time. Returns how many."""
        with self.read() as connection:
            ids = {
                CARD: connection.execute(sa.select(gpus.c.id)).scalars().all(),
                HOST: connection.execute(sa.select(hosts.c.id)).scalars().all(),
                FLEET: [FLEET_ID],
            }
        floor = int(minutes_before // QUARTER_S) * QUARTER_S
        deleted = 0
        for scope, subjects in ids.items():
            for start in range(0, len(subjects), 100):
                with self.write() as connection:
                    for width_s, before in ((MINUTE_S, floor), (QUARTER_S, quarters_before)):
                        old = history.delete().where(
                            history.c.scope == scope,
                            history.c.subject_id.in_(subjects[start : start + 100]),
                            history.c.width_s == width_s,
                            history.c.ts < before,
                        )
                        deleted += connection.execute(old).rowcount
        with self.write() as connection:
            set_state(connection, MINUTES_GONE, max(floor, state(connection, MINUTES_GONE) or 0))
        return deleted


def _lacking(connection: sa.Connection, gpu_id: int, since: int, until: int) -> list[int]:
    """The minutes of a card that hold another number of samples than there are."""
    step = raw.step_of(connection, samples.c.ts, MINUTE_S)
    there = (
        sa.select(step.label("step"), sa.func.count().label("n"))
        .where(samples.c.gpu_id == gpu_id, samples.c.ts >= since, samples.c.ts < until)
        .group_by(step)
        .subquery()
    )
    kept = sa.and_(
        history.c.scope == CARD,
        history.c.subject_id == gpu_id,
        history.c.width_s == MINUTE_S,
        history.c.ts == there.c.step,
    )
    query = sa.select(there.c.step).select_from(there.outerjoin(history, kept))
    return list(connection.execute(query.where(sa.func.coalesce(history.c.n, 0) != there.c.n)).scalars())
