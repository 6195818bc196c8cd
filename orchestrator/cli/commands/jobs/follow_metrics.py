"""tuneyard metrics --follow: the lines of a training as they come, until its job has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from orchestrator.cli.render import words
from orchestrator.cli.render.notes import note
from orchestrator.client.http import Api, Patience, job_path

if TYPE_CHECKING:
    from orchestrator.schemas import Job, MetricPoint, Metrics

POLL_S = 1.0  # hosts tell no sooner
NEWEST = 500  # lines that are asked for at once; where more have come meanwhile, all are

Key = tuple[int, int]  # attempt and step


def follow_metrics(
    api: Api, name: str, tell: Callable[[Metrics, list[MetricPoint]], None], poll_s: float = POLL_S
) -> Metrics:
    """Tell the points of a job as they come, each once, and again when its evaluation comes; the last answer, whole.

    A server that restarts is waited for.
    """
    told: dict[Key, bool] = {}  # and whether with its evaluation
    state, patience = "", Patience(note)
    while True:
        found: Metrics | None = None
        with patience.bear():
            found = _ask(api, name, told)
        if found is not None:
            name = str(found["job"])  # a newer job may take the name meanwhile
            if found["state"] not in (state, *words.ENDED):
                state = found["state"]
                _say(api, name, patience)
            newest = max(told, default=(0, -1))
            new = [point for point in found["points"] if _is_new(point, told, newest)]
            told |= {_key(point): point["eval_loss"] is not None for point in new}
            if new:
                tell(found, new)
            if found["state"] in words.ENDED:
                _say(api, name, patience)
                return found
        time.sleep(poll_s)


def _ask(api: Api, name: str, told: dict[Key, bool]) -> Metrics:
    """The newest points, or all where those leave a gap."""
    path = job_path(name, "/metrics")
    found: Metrics = api.get(path, **({"last": NEWEST} if told else {}))
    points = found["points"]
    if told and len(points) == NEWEST and _key(points[0]) > max(told):
        found = api.get(path)
    return found


def _say(api: Api, name: str, patience: Patience) -> None:
    with patience.bear():
        job: Job = api.get(job_path(name))
        note(words.sentence(job, None))


def _key(point: MetricPoint) -> Key:
    return point["attempt"], point["step"]


def _is_new(point: MetricPoint, told: dict[Key, bool], newest: Key) -> bool:
    """What is older and was not told is not: of a long training the server drops lines, and adds none."""
    key = _key(point)
    return key > newest or (told.get(key) is False and point["eval_loss"] is not None)


class Each:
    """Passes on each n-th of the points that come."""

    def __init__(self, every: int) -> None:
        self._every, self._seen = every, 0

    def of(self, points: Sequence[MetricPoint]) -> list[MetricPoint]:
        kept = [point for at, point in enumerate(points, self._seen) if at % self._every == 0]
        self._seen += len(points)
        return kept
