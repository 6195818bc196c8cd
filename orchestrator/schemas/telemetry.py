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
