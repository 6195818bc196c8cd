"""What several answers hold: reasons, rungs, projections, data, cards, faults."""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict  # pydantic reads these, and before Python 3.12 it needs this one


class ReasonShape(TypedDict):
    code: str
    text: str
    figures: dict[str, Any]


class RungShape(TypedDict):
    every_n: int
    micro_batch: int
    accumulation: int
    offload: bool
    precompute: bool
    label: str


class ProjectionShape(TypedDict):
    parts: dict[str, int]
    phase: str
    phases: dict[
        str, int
    ]  # allocated bytes at the highest moment of each; empty of one that an older version made
    intervals: dict[str, list[int]]  # "allocated", "reserved", "device": lowest and highest; likewise
    allocated_bytes: int
    reserved_bytes: int
    device_bytes: int
    upper_bytes: int
    step_s: float | None  # a mean step, at the pace that was measured of jobs like it


class GpuName(TypedDict):
    id: int
    uuid: str
    name: str
    host: str


class FaultShape(TypedDict):
    """One thing wrong with what was given. path: where, dotted; fix: what would be right."""

    path: str
    given: str
    problem: str
    fix: str


class Unreadable(TypedDict):
    """A record that is not in an answer, for this version can't read it. kind: job, attempt, host and so on; id: its id
    or name.
    """

    kind: str
    id: int | str
    why: str


class ErrorBody(TypedDict):
    """kind: usage, spec, not_found, conflict, unreadable, unauthorized, busy, unavailable or internal."""

    kind: str
    message: str
    faults: list[FaultShape]
    retry_after_s: NotRequired[float]  # with busy: when to come again


class ErrorShape(TypedDict):
    """Every refusal."""

    error: ErrorBody


class PlanData(TypedDict):
    """Lengths of the job's sequences in tokens."""

    rows: int
    mean: float
    p50: int
    p90: int
    p99: int
    longest: int
    longest_row: int  # before it is cut; 0: not known
    truncated: int
    dropped: int
    left_out: str  # the two above in words, empty where there are none
    warnings: list[str]
    sampled: bool
    padding: float  # 0 to 1: share of each batch that is padding, at the micro-batch of the pick
    histogram: list[list[int]]  # pairs of longest length and count, shortest first
