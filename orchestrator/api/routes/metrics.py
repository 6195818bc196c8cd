"""Route of metrics: what a training told of its steps, over all attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from fastapi import APIRouter, Query, Request

from jobs.errors import NotFound
from orchestrator import schemas
from orchestrator.api.edge.refusals import raises
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.responses.views import not_finite
from orchestrator.api.routes.jobs import services
from orchestrator.store import unreadable
from orchestrator.store.hosts.series import AttemptSeries
from orchestrator.store.rows import EvaluationRow, ProgressRow

router = APIRouter(route_class=Surviving)
T = TypeVar("T")


@router.get("/jobs/{job}/metrics", responses=raises(NotFound))
def metrics(
    request: Request, job: str, every: int = Query(1, ge=1), last: int | None = Query(None, ge=1)
) -> schemas.Metrics:
    """What a job told of its steps: loss, evaluation loss, learning rate, tokens/s, by step. Of a long training some
    hundred lines are kept, spread over all steps. every: each n-th point and the last; last: only the n last.
    """
    store = services(request).store
    row = store.find_job(job)
    with unreadable.one("job", row.id):
        points = [point for attempt in store.series(row.id) for point in _points(attempt)]
    shown = _each(points, every)
    if last is not None:
        shown = shown[-last:]
    return {
        "job": row.id,
        "name": row.name,
        "state": str(row.state),
        "points": shown,
        "total": len(points),
    }


def _points(attempt: AttemptSeries) -> list[schemas.MetricPoint]:
    lines = {line.step: line for line in attempt.progress}
    tests = {test.step: test for test in attempt.evaluations}
    return [_point(attempt.number, lines.get(step), tests.get(step)) for step in sorted({*lines, *tests})]


def _point(attempt: int, line: ProgressRow | None, test: EvaluationRow | None) -> schemas.MetricPoint:
    some = line or test
    assert some is not None  # a step is there because one of the two is
    given = (("loss", line), ("eval_loss", test))
    return {
        "step": some.step,
        "total_steps": line.total_steps if line else None,
        "attempt": attempt,
        "ts": some.ts,
        "loss": line.loss if line else None,
        "eval_loss": test.loss if test else None,
        "not_finite": {name: said for name, row in given if row is not None and (said := not_finite(row))},
        "learning_rate": line.learning_rate if line else None,
        "tokens": line.tokens if line else None,
        "tokens_per_s": line.tokens_per_s if line else None,
        "step_s": line.step_s if line else None,
        "device_bytes": line.device_bytes if line else None,
    }


def _each(points: Sequence[T], every: int) -> list[T]:
    """Every n-th, and the last."""
    kept = list(points[::every])
    return kept if not points or (len(points) - 1) % every == 0 else [*kept, points[-1]]
