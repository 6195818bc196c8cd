"""What a job would take, and why it waits."""

from __future__ import annotations

from typing_extensions import TypedDict  # pydantic reads these, and before Python 3.12 it needs this one

from orchestrator.schemas.common import PlanData, ProjectionShape, RungShape
from orchestrator.schemas.jobs import Job


class HostVerdict(TypedDict):
    host: str
    verdict: str
    code: str


class Why(TypedDict):
    job: Job
    hosts: list[HostVerdict]
    advice: list[str]


class Tried(TypedDict):
    rung: RungShape
    parts: dict[str, int]
    phase: str
    device_bytes: int
    upper_bytes: int
    step_s: float
    fits: bool
    excluded: bool  # it ran out of memory before
    relative_time: float | None


class PlanCard(TypedDict):
    """One card type. Those of the catalogue that the fleet has not have a count of 0."""

    card: str
    short: str  # as --cards takes it; empty outside the catalogue
    kind: str
    memory_bytes: int
    count: int
    free: int
    fits: bool
    rung: RungShape | None
    projection: ProjectionShape | None
    lower_bytes: int | None  # what the peak stays above, as surely as it stays under upper_bytes
    basis: str  # where the interval comes from: the group of measured attempts, or the prior
    saves_bytes: int | None  # what checkpointing every layer takes off the peak of no checkpointing
    slowdown: float | None  # 0.25: a step takes a quarter longer than without checkpointing
    step_s: float | None  # a mean step, as in projection
    speed: float  # measured over projected step time that is in step_s
    tokens_per_s: float | None  # of the data, over all GPUs
    hours: float | None  # of the whole job; None where nobody counted the data
    price: float | None  # of an hour of one GPU
    cost: float | None  # price x GPUs x hours
    notes: list[str]  # what a reader of the projection must know
    reason: str | None
    pick: bool
    tried: list[Tried]


class PlanShape(TypedDict):
    """`POST /plan`."""

    job: str
    gpus: int
    policy: str
    confidence: float
    sequence_length: int
    length: int  # of the longest batch that can occur: what the peaks are projected for
    global_batch: int
    steps: int | None
    cards: list[PlanCard]
    data: PlanData | None
    advice: list[str]  # what would make it fit; empty where it does
    notes: list[str]  # what else to know of it
    reason: str | None
    replaced: list[str]  # what flags took out of the job file, a sentence for each key
