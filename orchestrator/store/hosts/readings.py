"""What hosts tell as they go: readings of cards, pieces of logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SampleRow:
    """One reading of one card (jobs.messages.reports.GpuSample), with the attempt that held the card."""

    gpu_id: int
    ts: float
    attempt_id: int | None
    memory_used_bytes: int | None
    utilization: float | None
    power_w: float | None
    power_limit_w: float | None
    temperature_c: float | None
    sm_clock_mhz: float | None
    memory_clock_mhz: float | None
    energy_j: float | None
    throttle: int | None
    ecc_corrected: int | None
    ecc_uncorrected: int | None
    process_memory: dict[str, int] | None
    fault: str | None


@dataclass(frozen=True)
class LogPage:
    """A piece of an attempt's log. Offsets are bytes of UTF-8."""

    offset: int
    text: str
    next_offset: int


@dataclass(frozen=True)
class CardAttempt:
    """An attempt that held a card. memory_bytes: of the card that it was promised; projection, measured:
    as in AttemptRow.
    """

    id: int
    job_id: int
    number: int
    opened_at: float
    started_at: float | None
    ended_at: float | None
    outcome: str | None
    message: str | None
    steps: int | None
    projection: dict[str, Any]
    measured: dict[str, Any] | None
    rank: int
    exclusive: bool
    memory_bytes: int
    released_at: float | None
