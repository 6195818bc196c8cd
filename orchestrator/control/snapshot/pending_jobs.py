"""The queued jobs of snapshots, one record each: what a job was made from, and the generation that it was made in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from orchestrator.scheduler.fleet import PendingJob


@dataclass(slots=True)
class _Record:
    """made_from: rows of the job itself; figures: what else is known of it (its data, its family, its neighbours)."""

    made_from: object
    base: PendingJob
    figures: Mapping[str, Any] = field(default_factory=dict)
    job: PendingJob | None = None


class PendingJobs:
    """Jobs by id. One that is made from the same is the same object, with the same generation. Holds no truth.

    Generations rise and never come again, so that the number alone says whether a job that was kept is still the same.
    """

    def __init__(self) -> None:
        self._records: dict[int, _Record] = {}
        self._generations = count(1)

    def base(self, job_id: int, made_from: object, make: Callable[[], PendingJob]) -> PendingJob:
        """A job as its own rows say."""
        known = self._records.get(job_id)
        if known is None or known.made_from != made_from:
            known = self._records[job_id] = _Record(made_from, make())
        return known.base

    def whole(
        self, base: PendingJob, figures: Mapping[str, Any], shape: Callable[[PendingJob], Hashable]
    ) -> PendingJob:
        """The same with what else is known of it, and its shape."""
        known = self._records.get(base.job_id)
        if known is None or known.base is not base:
            known = self._records[base.job_id] = _Record(None, base)
        if known.job is None or known.figures != figures:
            told = replace(base, **figures)
            known.figures = figures
            known.job = replace(told, shape=shape(told), generation=next(self._generations))
        return known.job

    def forget_all_but(self, job_ids: Collection[int]) -> None:
        """Drop the jobs that left the queue."""
        for job_id in self._records.keys() - job_ids:
            del self._records[job_id]
