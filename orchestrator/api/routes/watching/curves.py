"""Route of a job's curves: what it told by step, and what its cards measured, for as long as there is the job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request

from jobs.errors import NotFound
from orchestrator import schemas
from orchestrator.api.edge.refusals import bad_parameter, raises
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.routes.jobs import services
from orchestrator.store import unreadable
from orchestrator.store.rows import ProgressRow

router = APIRouter(route_class=Surviving)

LEAST_POINTS, MOST_POINTS = 5, 2000
_LINE = ("loss", "learning_rate", "grad_norm", "tokens_per_s", "step_s", "device_bytes")
_OF_A_BUCKET = 4  # points that are kept of each: its first, least and greatest loss, greatest norm


@router.get("/jobs/{job}/curves", responses=raises(NotFound))
def curves(request: Request, job: str, points: int = MOST_POINTS) -> schemas.Curves:
    """A job's curves as columns: loss, learning rate, norm of the gradients, tokens/s and memory by step, over all
    attempts; the loss on rows that are held out; what each attempt's cards measured over time. points: of each line at
    most; peaks stay where they are.
    """
    if not LEAST_POINTS <= points <= MOST_POINTS:
        raise bad_parameter("points", points, f"write a number from {LEAST_POINTS} to {MOST_POINTS:,}")
    known = services(request)
    row = known.store.find_job(job)
    with unreadable.one("job", row.id):
        told = known.store.series(row.id)
        measured = known.store.telemetry_curves(row.id, known.controller.clock())
    lines = [(one.number, line) for one in told for line in one.progress]
    tests = [(one.number, test) for one in told for test in one.evaluations][-points:]
    kept = [lines[at] for at in thinned([line for _, line in lines], points)]
    training: Any = {
        "step": [line.step for _, line in kept],
        "ts": [line.ts for _, line in kept],
        "attempt": [number for number, _ in kept],
        **{name: [getattr(line, name) for _, line in kept] for name in _LINE},
    }
    telemetry: list[schemas.AttemptTelemetry] = [
        {
            "attempt": one.number,
            "step_s": one.step_s,
            "ts": one.ts,
            "n": one.n,
            "energy_j": one.energy_j,
            "values": one.values,
        }
        for one in measured
    ]
    return {
        "job": row.id,
        "name": row.name,
        "state": str(row.state),
        "total": len(lines),
        "training": training,
        "evaluation": {
            "step": [test.step for _, test in tests],
            "ts": [test.ts for _, test in tests],
            "attempt": [number for number, _ in tests],
            "loss": [test.loss for _, test in tests],
        },
        "telemetry": telemetry,
    }


def thinned(lines: Sequence[ProgressRow], points: int) -> list[int]:
    """The places of at most so many lines: of each of equally long stretches the first, those of the least and the
    greatest loss, and that of the greatest norm; and the last of all.
    """
    if len(lines) <= points:
        return list(range(len(lines)))
    count = max(1, (points - 1) // _OF_A_BUCKET)
    kept = {len(lines) - 1}
    for bucket in range(count):
        begin, end = bucket * len(lines) // count, (bucket + 1) * len(lines) // count
        places = range(begin, end)
        kept.add(begin)
        if losses := [at for at in places if lines[at].loss is not None]:
            kept |= {
                min(losses, key=lambda at: lines[at].loss or 0.0),
                max(losses, key=lambda at: lines[at].loss or 0.0),
            }
        if norms := [at for at in places if lines[at].grad_norm is not None]:
            kept.add(max(norms, key=lambda at: lines[at].grad_norm or 0.0))
    return sorted(kept)
