"""What a job made: its metrics and its result."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict  # pydantic reads these, and before Python 3.12 it needs this one

from orchestrator.schemas.common import Unreadable


class MetricPoint(TypedDict):
    """What a job told of one step. A line of training has a loss, an evaluation has an eval_loss, some have both."""

    step: int
    total_steps: int | None
    attempt: int
    ts: float
    loss: float | None
    eval_loss: float | None
    not_finite: dict[
        str, str
    ]  # "nan", "inf" or "-inf" of loss and eval_loss, where it is null for that reason
    learning_rate: float | None
    tokens: int | None  # trained so far in this attempt
    tokens_per_s: float | None
    step_s: float | None
    device_bytes: int | None  # peak so far


class Metrics(TypedDict):
    """`GET /jobs/{id}/metrics`. points: by step, over all attempts; steps that were trained again stand once, as
    they were trained last. total: how many there were before every and last cut them.
    """

    job: int
    name: str
    state: str
    points: list[MetricPoint]
    total: int
    unreadable: NotRequired[list[Unreadable]]


class ResultFile(TypedDict):
    name: str  # below the folder
    size: int
    sha256: str


class Result(TypedDict):
    """`GET /jobs/{id}/result`. bytes: of all files; manifest: its text as it stands in the folder."""

    job: int
    name: str
    attempt: int
    host: str
    folder: str
    kind: str  # adapter, model
    bytes: int
    files: list[ResultFile]
    manifest: str
    manifest_sha256: str
