"""`then` of a job -> the job files of its steps: each a job of its own, made by the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.jobfile.spec import JobSpec

MAX_NAME = 100
# What a step does not inherit: what says when and where the training runs, and where its result goes.
_NOT_INHERITED = (
    "after",
    "matrix",
    "sweep",
    "then",
    "resources",
    "retries",
    "time_limit",
    "report_to",
    "output",
)


def step_specs(spec: JobSpec, stored: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The job files of a job's steps as they are stored, in the order in which they run.

    stored: the job's own. A step's `output` is the training's with -KIND behind it, where that has one.
    """
    base = {key: value for key, value in stored.items() if key not in _NOT_INHERITED}
    made = []
    for step in spec.then:
        ending = f"-{step.kind}"
        own: dict[str, Any] = {"step": {step.kind: _written(step.options), "takes": "job"}}
        if spec.name:
            own["name"] = f"{spec.name[: MAX_NAME - len(ending)]}{ending}"
        if spec.output:
            own["output"] = f"{spec.output.rstrip('/')}{ending}"
        if retries := getattr(step.options, "retries", 0):
            own["retries"] = retries
        made.append({**base, **own})
    return made


def step_kind(spec: Mapping[str, Any]) -> str | None:
    """Which step a stored job file is of; None where it trains."""
    return next((kind for kind in spec.get("step") or () if kind != "takes"), None)


def _written(options: Any) -> dict[str, Any]:
    written: dict[str, Any] = options.model_dump(mode="json", exclude_unset=True)
    return written
