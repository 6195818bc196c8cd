"""Answers to a submission."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict  # pydantic reads these, and before Python 3.12 it needs this one

from orchestrator.schemas.jobs import GroupShape, Job


class StepQueued(TypedDict):
    """A step that follows a job's training. job: its own id; of: of that other job."""

    job: int
    kind: str
    of: int


class Submitted(TypedDict):
    """`POST /jobs`. replaced: what was laid over a file took out of it; warnings: what is worth knowing of the jobs;
    again: an earlier request with the same Idempotency-Key stored them, and this is what became of them; steps: what
    follows their training.
    """

    jobs: list[Job]
    steps: list[StepQueued]
    groups: list[GroupShape]
    replaced: list[str]
    warnings: list[str]
    again: bool


class Checked(TypedDict):
    """`POST /jobs?dry_run=true`: the valid job files, written out."""

    jobs: list[Job]
    valid: list[dict[str, Any]]
    replaced: list[str]
    warnings: list[str]


class Pending(TypedDict):
    """`POST /plan` while its memory profile is being traced. text: what it waits for."""

    pending: str
    text: str
