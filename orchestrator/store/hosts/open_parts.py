"""What is open on hosts, for the answers to their reports: read for many hosts at a time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import sqlalchemy as sa

import orchestrator.store.reads as reads
from jobs.messages.reports import AttemptOffsets
from orchestrator.store.engine.database import Database
from orchestrator.store.engine.text import is_text
from orchestrator.store.rows import AttemptRow
from orchestrator.store.schema.tables import attempts, evaluations, gpus, leases, progress

_IDS: sa.BindParameter[int] = sa.bindparam("ids", expanding=True)
# A host takes part where the leases of its cards say so; or leads, should a card of theirs have moved meanwhile.
_PARTS = (
    sa.select(leases.c.attempt_id, gpus.c.host_id)
    .select_from(leases.join(gpus))
    .where(gpus.c.host_id.in_(_IDS), leases.c.released_at.is_(None))
    .union(
        sa.select(attempts.c.id, attempts.c.host_id).where(
            attempts.c.host_id.in_(_IDS), attempts.c.outcome.is_(None)
        )
    )
    .subquery()
)
_STEP = sa.select(sa.func.max(progress.c.step)).where(progress.c.attempt_id == attempts.c.id)
_TEST = sa.select(sa.func.max(evaluations.c.step)).where(evaluations.c.attempt_id == attempts.c.id)
# Built once, for every report asks it.
_OPEN = (
    sa.select(
        _PARTS.c.host_id,
        attempts.c.id,
        attempts.c.job_id,
        attempts.c.number,
        attempts.c.uuid,
        attempts.c.host_id,
        attempts.c.log_bytes,
        _STEP.scalar_subquery(),
        _TEST.scalar_subquery(),
        sa.or_(attempts.c.stop_requested_at.is_not(None), attempts.c.reported.is_not(None)),
    )
    .select_from(attempts.join(_PARTS, _PARTS.c.attempt_id == attempts.c.id))
    .where(attempts.c.outcome.is_(None))
    .order_by(attempts.c.id)
)


@dataclass(frozen=True)
class OpenHere:
    """The open attempts with a part on one host, by id. unreadable: ids of those whose number or uuid can't be read;
    ending: those that were asked to end, or that have ended on some of their hosts.
    """

    offsets: list[AttemptOffsets] = field(default_factory=list)
    unreadable: set[int] = field(default_factory=set)
    ending: list[AttemptRow] = field(default_factory=list)


class OpenPartStore(Database):
    """Parts of open attempts, by host."""

    def open_on(self, host_ids: Collection[int]) -> dict[int, OpenHere]:
        """Of each host its open attempts, and how much of the news is stored of those that it leads."""
        found = {host_id: OpenHere() for host_id in host_ids}
        ending: dict[int, list[int]] = {}
        with self.read() as connection:
            for ids in reads.chunks(found):
                for (
                    here,
                    id_,
                    job_id,
                    number,
                    uuid,
                    lead,
                    log_bytes,
                    step,
                    tested,
                    ends,
                ) in connection.execute(_OPEN, {"ids": ids}):
                    if not isinstance(number, int) or not isinstance(uuid, str) or not is_text(uuid):
                        found[here].unreadable.add(id_)
                        continue
                    known = {"attempt_id": id_, "job_id": job_id, "number": number, "uuid": uuid}
                    news = {"log_offset": log_bytes, "step": step or 0}
                    news["evaluated"] = -1 if tested is None else tested
                    # SQLite keeps text, too: where none can tell how much is stored, the host goes on without telling.
                    tells = lead == here and isinstance(log_bytes, int)
                    stored = news if tells else {"lead": False}
                    found[here].offsets.append(AttemptOffsets(**known, **stored))
                    if ends:
                        ending.setdefault(id_, []).append(here)
            for ids in reads.chunks(ending):
                for row in reads.attempt_rows(connection, attempts.c.id.in_(ids)):
                    for here in ending[row.id]:
                        found[here].ending.append(row)
        return found
