"""What calibration reads: projected beside measured of ended attempts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from jobs.calibration import Observation, quantisation_of
from jobs.report import Ended
from jobs.state import Outcome
from orchestrator.store.database import Database
from orchestrator.store.rows import AttemptRow
from orchestrator.tables import attempts, hosts, jobs, observations

NEWEST = 2000  # what a calibration is made from: older attempts ran other library versions
_BYTES = ("allocated_bytes", "reserved_bytes", "device_bytes")


class ObservationStore(Database):
    """Observations: one for each ended attempt that was measured, or ran out of memory."""

    def observations(self, limit: int = NEWEST) -> list[Observation]:
        """The newest `limit` of them, oldest first."""
        newest = sa.select(observations).order_by(observations.c.ts.desc(), observations.c.attempt_id.desc())
        with self.read() as connection:
            rows = connection.execute(newest.limit(limit)).all()
        return [_observation(dict(row._mapping)) for row in reversed(rows)]

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
    known = {name: value for name, value in row.items() if value is not None}
    return Observation(**{"family": row["architecture"], **known})


def _live_upper(projected: Mapping[str, Any]) -> int | None:
    """What live bytes were to stay under, where they had a bound of their own."""
    told_apart = (projected.get("margin") or {}).get("beside") is not None
    return projected["intervals"]["allocated"][1] if told_apart else None


def observe(connection: sa.Connection, attempt: AttemptRow, ended: Ended, now: float) -> None:
    """Writes the observation of an attempt that ends, where it got far enough to measure memory or ran out of it."""
    ran_out = ended.outcome is Outcome.OOM
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
            trace_key=basis.get("trace_key", job.trace_key),
            architecture=model,
            family=basis.get("family", model),
            method=method,
            quantisation=quantisation_of(method),
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
