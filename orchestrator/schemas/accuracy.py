"""Projections beside measurements."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict  # pydantic reads these, and before Python 3.12 it needs this one

from orchestrator.schemas.common import Unreadable


class AccuracyProjected(TypedDict):
    allocated_bytes: int | None
    reserved_bytes: int | None
    device_bytes: int | None
    upper_bytes: int | None
    step_s: float | None


class AccuracyMeasured(TypedDict):
    allocated_bytes: int | None
    reserved_bytes: int | None
    device_bytes: int | None
    step_s: float | None


class AccuracyRow(TypedDict):
    """One ended attempt. error: measured / projected - 1 of device bytes, at least that where it ran out of memory."""

    job: int
    name: str
    attempt: int
    ts: float
    family: str
    method: str
    quantisation: str
    card: str
    card_bytes: int | None
    rung: str
    outcome: str
    phase: str | None
    sequence_length: int | None
    confidence: float | None
    margin_group: str | None
    expandable: bool | None  # whether segments of torch's CUDA allocator could expand
    projected: AccuracyProjected
    measured: AccuracyMeasured
    error: float | None
    outlier: bool  # far from all others: it counts as a bounded error
    not_comparable: str | None  # why there is no error: no_peak, roomy_card
    covered: bool | None


class AccuracyFigure(TypedDict):
    """One of allocated, reserved, device. Errors are measured / projected - 1; median_error of their sizes."""

    figure: str
    count: int
    median_error: float | None
    bias: float | None
    worst: float | None


class AccuracyGroup(TypedDict):
    """Attempts of one family, method, quantisation and card.

    low, high: the interval that the next one gets; where beside_low and beside_high are not null, low and high are of
    live bytes, and those two of what stands on the card beside them, as a share of device bytes.
    """

    family: str
    method: str
    quantisation: str
    card: str
    count: int
    ran_out: int
    covered: int
    judged: int
    median_error: float | None
    worst: float | None
    low: float | None
    high: float | None
    beside_low: float | None
    beside_high: float | None
    margin_group: str
    confidence: float
    speed: float


class Coverage(TypedDict):
    """Attempts whose device bytes stayed under the upper bound. asked: the confidence that they asked for."""

    covered: int
    of: int
    share: float | None
    asked: float | None


class PartCoverage(TypedDict):
    """Attempts of which one part of the device bytes stayed under its own bound: live bytes, or those beside them."""

    part: str
    covered: int
    of: int
    share: float | None


class Accuracy(TypedDict):
    """`GET /accuracy`. attempts: oldest first; worst: the same, the worst miss first.

    left_out: how many attempts no figure is of, by why: no_peak and roomy_card of those measured, unmeasured: ended
    before anything was, older: beyond the limit.
    """

    attempts: list[AccuracyRow]
    counted: int
    outliers: int
    left_out: dict[str, int]
    ran_out: int
    coverage: Coverage
    parts: list[PartCoverage]
    figures: list[AccuracyFigure]
    groups: list[AccuracyGroup]
    worst: list[AccuracyRow]
    unreadable: NotRequired[list[Unreadable]]


class Forgotten(TypedDict):
    """`POST /accuracy/forget`. attempts: whose measurements no longer count, or would not; jobs: whose attempts."""

    attempts: int
    jobs: int
