"""The fleet as it is now, by column: what `tuneyard top` and the web page draw."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict  # pydantic reads these, and before Python 3.12 it needs this one

from orchestrator.schemas.common import Unreadable


class HostColumns(TypedDict):
    """Hosts by name, equally long lists. state: as in `GET /hosts`; last_seen: of those that are not there."""

    id: list[int]
    name: list[str]
    state: list[str]
    cards: list[int]
    free: list[int]  # cards that take work now
    last_seen: list[float | None]
    fault: list[str | None]


class CardColumns(TypedDict):
    """Cards by host and index, equally long lists.

    state: one of free, busy, idle (held, and its utilisation has been near zero for a minute), faulty, away (its host
    is not there), closed (its host takes no work). utilization: 0 to 1; projected_bytes, upper_bytes: what all that
    run on it were projected to take together, and its upper bound; job, attempt: of the first that holds it, holders:
    how many do; idle_since: Unix seconds, as far as this server has watched.
    """

    id: list[int]
    host: list[int]
    index: list[int]
    uuid: NotRequired[list[str]]  # not in the stream
    name: list[str]
    kind: list[str]
    memory_bytes: list[int]
    used_bytes: list[int | None]
    projected_bytes: list[int | None]
    upper_bytes: list[int | None]
    utilization: list[float | None]
    power_w: list[int | None]
    temperature_c: list[int | None]
    state: list[str]
    fault: list[str | None]
    job: list[int | None]
    attempt: list[int | None]
    holders: list[int]
    idle_since: list[float | None]


class RunningColumns(TypedDict):
    """Jobs that run, by id, equally long lists. attempt: its number within the job; loss: null where it is no number;
    eta_s: of training, at its present pace, as of its last step; stalled: far longer since that than its steps take.
    """

    id: list[int]
    name: list[str]
    user: list[str]
    project: list[str]
    priority: list[int]
    attempt: list[int]
    cards: list[int]
    started_at: list[float | None]
    step: list[int | None]
    total_steps: list[int | None]
    loss: list[float | None]
    tokens_per_s: list[float | None]
    eta_s: list[float | None]
    stalled: list[bool]


class QueueColumns(TypedDict):
    """The first jobs of the queue in starting order, equally long lists. reason: a code; text: the same in words;
    earliest, latest: when it is likely to start, Unix seconds.
    """

    id: list[int]
    name: list[str]
    user: list[str]
    project: list[str]
    priority: list[int]
    reason: list[str]
    text: list[str]
    submitted_at: list[float]
    earliest: list[float | None]
    latest: list[float | None]


class FleetTotals(TypedDict):
    """Of the whole fleet. waiting: jobs in the queue; used_bytes, power_w: of the cards that told."""

    hosts: int
    hosts_online: int
    cards: int
    states: dict[str, int]  # cards by state
    running: int
    waiting: int
    memory_bytes: int
    used_bytes: int
    power_w: int


class FleetState(TypedDict):
    """`GET /fleet`. at: when it was read, Unix seconds; build: of the web page;
    matching: hosts that the filter finds, on all pages.
    """

    at: float
    version: str
    build: str
    totals: FleetTotals
    hosts: HostColumns
    cards: CardColumns
    running: RunningColumns
    queue: QueueColumns
    matching: int
    unreadable: NotRequired[list[Unreadable]]
