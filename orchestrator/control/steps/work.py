"""What a step works on: the result of the training that it follows, or of a step before it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from jobs.errors import Conflict
from jobs.identity import Owner
from jobs.messages.taken_result import TakenResult
from orchestrator.control.steps.pending import result_of
from orchestrator.store import Store
from orchestrator.store.rows import AttemptRow, JobRow


class Sources:
    """Finds the attempts whose results steps work on: a handful of statements, whatever the number of steps."""

    def __init__(self, store: Store, steps: Collection[JobRow]) -> None:
        trained = {step.step_of for step in steps if step.step_of is not None}
        self._jobs = store.jobs_by_id(trained) if trained else {}
        self._attempts = store.histories(trained) if trained else {}

    def of(self, step: JobRow) -> AttemptRow | None:
        """The attempt that made it; None where it is not there."""
        job_id = step.step_of or 0
        return result_of(self._jobs.get(job_id), self._attempts.get(job_id, ()))

    @property
    def jobs(self) -> dict[int, JobRow]:
        """The jobs that made them, by id."""
        return self._jobs

    def taken(self, step: JobRow, owner_of: Callable[[JobRow], Owner]) -> TakenResult:
        """What the worker is told of it. owner_of: names a job as its files do. Raises Conflict where it is gone."""
        made = self.of(step)
        if made is None or made.result is None:
            raise Conflict(f"the result that job {step.id} works on is gone")
        return TakenResult(
            folder=made.result,
            owner=owner_of(self._jobs[made.job_id]),
            attempt_id=made.id,
            attempt_uuid=made.uuid,
        )
