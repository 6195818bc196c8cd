"""What was measured over time."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict  # pydantic reads these, and before Python 3.12 it needs this one

from orchestrator.schemas.common import Unreadable


class SeriesLine(TypedDict):
    """One subject. All lists are as long as `ts` of the answer; null where nothing was told.

    n: samples; cards: whose; faults: samples with a fault; energy_j: drawn in the step; values: by field and stat.
    """

    id: int
    name: str
    uuid: NotRequired[str]  # of a card
    n: list[int]
    cards: list[int]
    faults: list[int]
    energy_j: list[float | None]
    values: dict[str, dict[str, list[float | None]]]


class Series(TypedDict):
    """`GET /series`. source: sample, minute or quarter, which it was read from; ts: the beginnings of all steps."""

    kind: str
    since: float
    until: float
    step_s: int
    source: str
    ts: list[int]
    series: list[SeriesLine]
    unreadable: NotRequired[list[Unreadable]]


class CurveColumns(TypedDict):
    """What a job told by step, over all attempts; steps that were trained again stand once. All lists are as long."""

    step: list[int]
    ts: list[float]
    attempt: list[int]
    loss: list[float | None]
    learning_rate: list[float | None]
    grad_norm: list[float | None]
    tokens_per_s: list[float | None]
    step_s: list[float | None]
    device_bytes: list[int | None]


class EvaluationColumns(TypedDict):
    """The loss on the rows that are held out."""

    step: list[int]
    ts: list[float]
    attempt: list[int]
    loss: list[float | None]


class AttemptTelemetry(TypedDict):
    """What the cards of one attempt measured, as one: by step of so many seconds."""

    attempt: int
    step_s: int
    ts: list[int]
    n: list[int]
    energy_j: list[float | None]
    values: dict[str, dict[str, list[float | None]]]


class Curves(TypedDict):
    """`GET /jobs/{id}/curves`. total: lines of training that there are; thinned to the points that were asked for."""

    job: int
    name: str
    state: str
    total: int
    training: CurveColumns
    evaluation: EvaluationColumns
    telemetry: list[AttemptTelemetry]
    unreadable: NotRequired[list[Unreadable]]


class UsageLine(TypedDict):
    """What one project, user, job or card used. Its five parts add up to gpu_s: the leased time, of a shared card by
    the share of its memory.

    startup_s: until the first step; training_s; recompute_s: what checkpointing cost; lost_s: after the last
    checkpoint of attempts that ended by a fault or were preempted; idle_s: held, and the card did nothing. price: null
    where a card has none.
    """

    name: str
    id: NotRequired[int]  # of a job
    user: NotRequired[str]  # of a job
    attempts: int
    gpu_s: float
    startup_s: float
    training_s: float
    recompute_s: float
    lost_s: float
    idle_s: float
    energy_j: float
    energy_kwh: float
    price: float | None


class Usage(TypedDict):
    """`GET /usage`. by: project, user, job or card; lines: the most GPU-seconds first; total: of all of them.

    measured_until: energy and idle time are known up to then, null: of none of it.
    """

    by: str
    since: float
    until: float
    measured_until: float | None
    lines: list[UsageLine]
    total: UsageLine
    unreadable: NotRequired[list[Unreadable]]
