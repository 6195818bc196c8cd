"""Steady: a job that did not change is the same object in every snapshot: nothing about it is worked out anew."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from orchestrator.scheduler.fleet import Waiting


class Steady:
    """Jobs of snapshots by number, each with what it was made from. Holds no truth."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[object, Waiting]] = {}

    def made(self, job_id: int, made_from: object, make: Callable[[], Waiting]) -> Waiting:
        """The job as it was made from the same, else as it is made now."""
        known = self._made.get(job_id)
        if known is not None and known[0] == made_from:
            return known[1]
        job = make()
        self._made[job_id] = (made_from, job)
        return job

    def replaced(self, job: Waiting, **fields: Any) -> Waiting:
        """The job with these fields, as replace() makes it."""
        return self.made(job.job_id, (job, fields), lambda: replace(job, **fields))

    def forget_all_but(self, job_ids: Collection[int]) -> None:
        """Drop the jobs that left the queue."""
        for job_id in self._made.keys() - job_ids:
            del self._made[job_id]
