"""What calibration reads: projected beside measured of ended attempts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
import orchestrator.store.unreadable as unreadable
from jobs.memory.calibration.observations import Observation, quantisation_of
from jobs.messages.reports import Ended
from jobs.state import Outcome
from orchestrator.store.engine.database import Database
from orchestrator.store.requests import Actor, Note
from orchestrator.store.rows import AttemptRow
from orchestrator.store.schema.tables import attempts, hosts, jobs, observations

NEWEST = 2000  # what a calibration is made from: older attempts ran other library versions
_BYTES = ("allocated_bytes", "reserved_bytes", "device_bytes")


@dataclass(frozen=True)
class Selection:
    """Which observations: those that are all of this. family: the model_type; card: its name; None: any."""

    job_id: int | None = None
    family: str | None = None
    card: str | None = None

    @property
    def text(self) -> str:
        words = [f"job {self.job_id}" if self.job_id is not None else None, self.family, self.card]
        return ", ".join(word for word in words if word)

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        family = sa.func.coalesce(observations.c.family, observations.c.architecture)
        wanted = ((attempts.c.job_id, self.job_id), (family, self.family), (observations.c.card, self.card))
        return [column == value for column, value in wanted if value is not None]


class ObservationStore(Database):
    """Observations: one for each ended attempt that was measured, or ran out of memory."""

    def observations(self, limit: int = NEWEST) -> list[Observation]:
        """The newest `limit` of them, oldest first."""
        newest = (
            sa.select(observations, attempts.c.job_id)
            .select_from(observations.join(attempts))
            .order_by(observations.c.ts.desc(), observations.c.attempt_id.desc())
        )
        with self.read() as connection:
            rows = connection.execute(newest.limit(limit)).all()
        return unreadable.rows(
            "measurement of attempt",
            reversed(rows),
            observations,
            attrgetter("attempt_id"),
            lambda row: _observation(dict(row._mapping)),
        )

    def observation_counts(self) -> tuple[int, int]:
        """How many observations there are, and how many ended attempts left none, since the oldest where older ones
        may have been removed.
        """
        ended = sa.select(sa.func.count()).select_from(attempts).where(attempts.c.outcome.is_not(None))
        seen = sa.select(sa.func.count(), sa.func.min(observations.c.ts))
        with self.read() as connection:
            count, oldest = connection.execute(seen).one()
            if count >= NEWEST:
                ended = ended.where(attempts.c.ended_at >= oldest)
            return count, max(0, connection.execute(ended).scalar_one() - count)

    def forget_observations(
        self, what: Selection, now: float, actor: Actor | None = None, try_only: bool = False
    ) -> tuple[int, int]:
        """Removes what was measured of these: how many attempts, of how many jobs. try_only: counts them."""
        mine = sa.select(observations.c.attempt_id, attempts.c.job_id)
        mine = mine.select_from(observations.join(attempts)).where(*what.conditions())
        with self.write() as connection:
            found = connection.execute(mine).all()
            if found and not try_only:
                for ids in reads.chunks({row.attempt_id for row in found}):
                    connection.execute(observations.delete().where(observations.c.attempt_id.in_(ids)))
                text = f"what was measured of {what.text} no longer counts ({len(found)})"
                reads.note(
                    connection, now, Note.FORGOTTEN, text, job_id=what.job_id, data=asdict(what), actor=actor
                )
        return len(found), len({row.job_id for row in found})

    def jobs_of_attempts(self, attempt_ids: Collection[int]) -> dict[int, tuple[int, str, int]]:
        """Id and name of each attempt's job, and the attempt's number within it."""
        found: dict[int, tuple[int, str, int]] = {}
        query = sa.select(attempts.c.id, jobs.c.id, jobs.c.name, attempts.c.number).select_from(
            attempts.join(jobs)
        )
        with self.read() as connection:
            for ids in reads.chunks(attempt_ids):
                for id_, job_id, name, number in connection.execute(query.where(attempts.c.id.in_(ids))):
                    found[id_] = (job_id, name, number)
        return found


def _observation(row: Mapping[str, Any]) -> Observation:
    """Raises whatever a calibration would that meets it."""
    known = {name: value for name, value in row.items() if value is not None}
    made = Observation(**{"family": row["architecture"], **known})
    made.group, made.residual()
    return made


def _live_upper(projected: Mapping[str, Any]) -> int | None:
    """What live bytes were to stay under, where they had a bound of their own."""
    told_apart = (projected.get("margin") or {}).get("beside") is not None
    return projected["intervals"]["allocated"][1] if told_apart else None


def observe(connection: sa.Connection, attempt: AttemptRow, ended: Ended, now: float) -> None:
    """Writes the observation of an attempt that ends, where it got far enough to measure memory or ran out of it."""
    if not attempt.gpus:  # a step
        return
    ran_out = ended.outcome is Outcome.OOM
    if ran_out and ended.host_memory:  # what no projection is of: an endless template, rows that are too many
        return
    if ended.allocated_bytes is None and ended.device_bytes is None and not ran_out:
        return
    job = reads.job_rows(connection, sa.select(jobs).where(jobs.c.id == attempt.job_id))[0]
    info = connection.execute(sa.select(hosts.c.info).where(hosts.c.id == attempt.host_id)).scalar_one()
    model, method = job.spec["model"], job.spec.get("method", "lora")
    if isinstance(model, Mapping):
        model = model.get("path") or model["config"]["model_type"]
    if isinstance(method, Mapping):
        method = method.get("kind", "lora")
    projected, basis = attempt.projection, attempt.basis or {}
    connection.execute(
        observations.insert().values(
            attempt_id=attempt.id,
            ts=now,
            trace_key=basis.get("trace_key"),
            architecture=model,
            family=basis.get("family", model),
            method=method,
            quantisation=basis.get("quantisation") or quantisation_of(method),
            card=attempt.gpus[0].name,
            # Of a card that it shared it had what it was promised, and beside others its pace says nothing.
            card_bytes=projected.get("upper_bytes") if attempt.shared else attempt.gpus[0].memory_bytes,
            stack=info.get("stack", {}),
            rung=attempt.rung,
            outcome=ended.outcome,
            phase=projected.get("phase"),
            sequence_length=basis.get("sequence_length"),
            confidence=basis.get("confidence"),
            margin_group=basis.get("margin_group"),
            expandable=ended.expandable,
            projected_upper_bytes=projected.get("upper_bytes"),
            projected_live_upper_bytes=_live_upper(projected),
            projected_step_s=None if attempt.shared else projected.get("step_s"),
            measured_step_s=ended.step_s,
            **{f"projected_{name}": projected.get(name) for name in _BYTES},
            **{f"measured_{name}": getattr(ended, name) for name in _BYTES},
        )
    )
