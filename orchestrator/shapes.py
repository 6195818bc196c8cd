"""The shapes of the API's JSON answers, for type checkers. Times are Unix seconds, memory is bytes."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict  # pydantic reads these, and before Python 3.12 it needs this one


class ReasonShape(TypedDict):
    code: str
    text: str
    figures: dict[str, Any]


class ProgressShape(TypedDict):
    step: int
    total_steps: int
    loss: float | None
    tokens_per_s: float | None
    eta_s: float | None


class Job(TypedDict):
    """One row of `GET /jobs`."""

    id: int
    name: str
    state: str
    reason: ReasonShape
    user: str
    priority: int
    gpus: int
    method: str
    model: str
    trainer: str
    submitted_at: float
    started_at: float | None
    ended_at: float | None
    attempts: int
    progress: ProgressShape | None
    host: str | None
    cards: list[str]
    rung: str | None
    projected_bytes: int | None
    measured_bytes: int | None
    cancel_requested: bool


class RungShape(TypedDict):
    every_n: int
    micro_batch: int
    accumulation: int
    offload: bool
    label: str


class ProjectionShape(TypedDict):
    parts: dict[str, int]
    phase: str
    allocated_bytes: int
    reserved_bytes: int
    device_bytes: int
    upper_bytes: int
    step_s: float | None


class MeasuredShape(TypedDict):
    allocated_bytes: int | None
    reserved_bytes: int | None
    device_bytes: int | None
    step_s: float | None
    tokens_per_s: float | None


class GpuName(TypedDict):
    id: int
    uuid: str
    name: str


class Attempt(TypedDict):
    id: int
    number: int
    host: str
    gpus: list[GpuName]
    rung: RungShape | None
    projection: ProjectionShape | None
    measured: MeasuredShape | None
    outcome: str | None
    message: str | None
    steps: int | None
    total_steps: int | None
    first_loss: float | None
    last_loss: float | None
    opened_at: float
    started_at: float | None
    ended_at: float | None
    last_checkpoint: str | None
    result: str | None


class EventShape(TypedDict):
    ts: float
    kind: str
    text: str
    attempt: int | None


class JobFull(Job):
    """`GET /jobs/{id}`."""

    spec: dict[str, Any]
    attempts_detail: list[Attempt]
    events: list[EventShape]


class JobPage(TypedDict):
    jobs: list[Job]
    more: bool
    total: int


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
    device_bytes: int
    upper_bytes: int
    fits: bool
    relative_time: float | None


class PlanCard(TypedDict):
    card: str
    memory_bytes: int
    count: int
    free: int
    fits: bool
    rung: RungShape | None
    projection: ProjectionShape | None
    slowdown: float | None  # 0.25: a step takes a quarter longer than without checkpointing
    reason: str | None
    pick: bool
    tried: list[Tried]


class PlanShape(TypedDict):
    """`POST /plan`."""

    job: str
    cards: list[PlanCard]
    reason: str | None


class LogPage(TypedDict):
    attempt: int
    offset: int
    text: str
    next_offset: int
    ended: bool


class Host(TypedDict):
    id: int
    name: str
    state: str
    labels: dict[str, str]
    gpus: int
    free: int
    last_seen: float | None
    stack: dict[str, str]
    version: str
    ray_ready: bool


class Gpu(TypedDict):
    id: int
    uuid: str
    host: str
    index: int
    kind: str
    name: str
    memory_bytes: int
    fault: str | None
    job: int | None
    attempt: int | None
    sample: dict[str, Any] | None


class Health(TypedDict):
    status: str
    version: str
    pid: int
    ray: str
    hosts: int
