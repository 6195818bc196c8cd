"""What is exported as metrics beside the live state: counters of cards, disks, sums of jobs and attempts, sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from orchestrator.store.engine.database import Database
from orchestrator.store.history.rollup import MINUTES, state
from orchestrator.store.schema.tables import attempts, gpus, hosts, jobs, samples

_NEWEST = (
    sa.select(sa.func.max(samples.c.ts))
    .where(samples.c.gpu_id == gpus.c.id)
    .correlate(gpus)
    .scalar_subquery()
)
_READINGS = sa.select(
    *(samples.c.gpu_id, samples.c.ts, samples.c.energy_j, samples.c.power_limit_w, samples.c.sm_clock_mhz),
    *(samples.c.memory_clock_mhz, samples.c.ecc_corrected, samples.c.ecc_uncorrected),
).where(samples.c.gpu_id == gpus.c.id, samples.c.ts == _NEWEST)


@dataclass(frozen=True)
class Exported:
    """readings: of each card by id, the newest; hosts: name, last_seen and disks, of each that joined."""

    readings: dict[int, Any]
    hosts: list[tuple[str, float, list[dict[str, Any]]]]
    jobs: dict[str, int]  # by state
    attempts: dict[str, int]  # that ended, by outcome
    started: int  # attempts that there ever were
    database_bytes: int
    history_until: int | None


class ExportedStore(Database):
    """What is read for a scrape."""

    def exported(self) -> Exported:
        """All of one instant."""
        count = sa.func.count()
        with self.read() as connection:
            ask = connection.execute
            told = ask(sa.select(hosts.c.name, hosts.c.last_seen, hosts.c.disks).order_by(hosts.c.name)).all()
            ended = ask(sa.select(attempts.c.outcome, count).group_by(attempts.c.outcome)).all()
            return Exported(
                readings={row.gpu_id: row for row in ask(_READINGS)},
                hosts=[(name, seen, disks if isinstance(disks, list) else []) for name, seen, disks in told],
                jobs={row[0]: row[1] for row in ask(sa.select(jobs.c.state, count).group_by(jobs.c.state))},
                attempts={name: n for name, n in ended if name is not None},
                started=sum(n for _, n in ended),
                database_bytes=self._size(connection),
                history_until=state(connection, MINUTES),
            )

    def _size(self, connection: sa.Connection) -> int:
        if not self.is_sqlite:
            return int(
                connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar() or 0
            )
        pages, size = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar() or 0 for name in ("page_count", "page_size")
        )
        return int(pages) * int(size)
