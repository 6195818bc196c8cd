"""Samples, logs and progress in the database: what arrives by the thousand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import isfinite
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
import orchestrator.store.unreadable as unreadable
from jobs.messages.reports import GpuSample
from orchestrator.store.engine.bulk import BulkInsert
from orchestrator.store.engine.database import Database
from orchestrator.store.hosts.readings import LogPage, SampleRow
from orchestrator.store.rows import ProgressRow
from orchestrator.store.schema.column_types import clean_text
from orchestrator.store.schema.tables import gpus, log_chunks, progress, samples

insert_samples = BulkInsert(samples, samples.c.keys(), ignore_known=True)

SampleTuple = tuple[Any, ...]
_measured = attrgetter(
    *("memory_used_bytes", "utilization", "power_w", "power_limit_w", "temperature_c", "sm_clock_mhz"),
    *("memory_clock_mhz", "energy_j", "throttle", "ecc_corrected", "ecc_uncorrected"),
)


def sample_tuple(gpu_id: int, attempt_id: int | None, sample: GpuSample) -> SampleTuple:
    """A row of samples, as record_samples takes it."""
    return (
        gpu_id,
        sample.ts,
        attempt_id,
        *plain(_measured(sample)),
        _memory_json(sample.process_memory) if sample.process_memory else None,
        clean_text(sample.fault) if sample.fault else None,
    )


def _memory_json(memory: Mapping[int, int]) -> str:
    """As to_json() has it, of whole numbers alone: there is one of these for each card and second."""
    return "{" + ",".join(sorted(f'"{pid}":{size}' for pid, size in memory.items())) + "}"


def plain(values: Iterable[Any]) -> list[Any]:
    """NaN and infinity as None: PostgreSQL keeps them, SQLite only some, and JSON has no word for them."""
    return [value if value.__class__ is not float or isfinite(value) else None for value in values]


class TelemetryStore(Database):
    """Samples, logs and progress."""

    def record_samples(self, rows: Sequence[SampleTuple]) -> None:
        """Stores rows of samples (see sample_tuple). One that is there already stays as it is."""
        if rows:
            with self.write() as connection:
                insert_samples(connection, rows)

    def latest_samples(self) -> dict[int, SampleRow]:
        """Each card's newest sample: one index look-up each."""
        others = samples.alias()
        newest = sa.select(sa.func.max(others.c.ts)).where(others.c.gpu_id == gpus.c.id).scalar_subquery()
        query = sa.select(samples).where(samples.c.gpu_id == gpus.c.id, samples.c.ts == newest)
        with self.read() as connection:
            return {row.gpu_id: row for row in _samples(connection.execute(query))}

    def samples(self, gpu_id: int, since: float, until: float) -> list[SampleRow]:
        """A card's samples with since <= ts < until, oldest first."""
        query = sa.select(samples).where(
            samples.c.gpu_id == gpu_id, samples.c.ts >= since, samples.c.ts < until
        )
        with self.read() as connection:
            return _samples(connection.execute(query.order_by(samples.c.ts)))

    def progress(self, attempt_id: int) -> list[ProgressRow]:
        """The attempt's progress, by step."""
        query = sa.select(progress).where(progress.c.attempt_id == attempt_id).order_by(progress.c.step)
        with self.read() as connection:
            return reads.lines_of(ProgressRow, progress, connection.execute(query))

    def latest_progress(self, attempt_ids: Collection[int]) -> dict[int, ProgressRow]:
        """The last line of each attempt's progress, where there is one."""
        with self.read() as connection:
            return reads.latest_progress(connection, attempt_ids)

    def logs(self, attempt_id: int, offset: int = 0, limit: int = 1_000_000) -> LogPage:
        """The attempt's log from a byte offset: at most limit bytes, but at least one whole character."""
        others = log_chunks.alias()
        first = sa.select(sa.func.max(others.c.start_byte)).where(
            others.c.attempt_id == attempt_id, others.c.start_byte <= offset
        )
        query = sa.select(log_chunks.c.start_byte, log_chunks.c.text).where(
            log_chunks.c.attempt_id == attempt_id,
            log_chunks.c.start_byte >= first.scalar_subquery(),
            log_chunks.c.start_byte < offset + limit,
        )
        with self.read() as connection:
            chunks = connection.execute(query.order_by(log_chunks.c.start_byte)).all()
        data = b"".join(map(_bytes, chunks))
        start = _boundary(data, offset - chunks[0].start_byte) if chunks else 0
        end = _boundary(data, start + limit)
        while end <= start < len(data):
            limit += 1
            end = _boundary(data, start + limit)
        begin = (chunks[0].start_byte if chunks else 0) + start if data[start:end] else offset
        return LogPage(begin, data[start:end].decode(errors="replace"), begin + end - start)

    def log_since(self, attempt_id: int, since: float) -> int | None:
        """The byte at which the attempt's log begins that was stored since then, at the latest; None: there is none."""
        told = sa.or_(log_chunks.c.ts >= since, log_chunks.c.ts.is_(None))
        query = sa.select(sa.func.min(log_chunks.c.start_byte)).where(
            log_chunks.c.attempt_id == attempt_id, told
        )
        with self.read() as connection:
            found: int | None = connection.execute(query).scalar()
        return found


def _bytes(chunk: Any) -> bytes:
    """Of a piece of a log, and of what is no text: SQLite keeps that."""
    return chunk.text.encode() if isinstance(chunk.text, str) else bytes(chunk.text)


def _samples(found: Iterable[Any]) -> list[SampleRow]:
    def key(row: Any) -> str:
        return f"of card {row.gpu_id} at {row.ts}"

    return unreadable.rows("sample", found, samples, key, lambda row: SampleRow(**row._mapping))


def _boundary(data: bytes, at: int) -> int:
    """The beginning of the character that byte `at` belongs to."""
    at = min(at, len(data))
    while 0 < at < len(data) and data[at] & 0xC0 == 0x80:
        at -= 1
    return at
