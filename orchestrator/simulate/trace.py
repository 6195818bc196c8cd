"""TraceJob: one job of a trace, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.jobfile.fields import PRIORITIES
from orchestrator.scheduler.fleet import DEFAULT_PROJECT

DEFAULT_PRIORITY = PRIORITIES["normal"]


@dataclass(frozen=True, slots=True)
class TraceJob:
    """A job of a trace. Seconds.

    duration_s: of training on the GPUs it had, without interruption; pool: the hosts it is confined to (a virtual
    cluster), empty: any; seconds_by_card: of the whole job on each card that it fits, by the card's name; None, as in
    most traces: all cards are as good.
    """

    job_id: int
    submit_s: float
    duration_s: float
    gpus: int
    user: str = ""
    project: str = DEFAULT_PROJECT
    pool: str = ""
    priority: int = DEFAULT_PRIORITY
    seconds_by_card: tuple[tuple[str, float], ...] | None = None


@dataclass(slots=True)
class Ran:
    """What became of a job of a trace. Seconds on the trace's clock.

    first_start_s, end_s: None where it never came to that; waited_s: queued, all its waits together; preemptions: how
    often it was stopped for another; moves: how often to go on with other cards; gpu_s: GPU-seconds that it held cards,
    lost ones among them; card: what it ran on last.
    """

    job: TraceJob
    first_start_s: float | None = None
    end_s: float | None = None
    waited_s: float = 0.0
    preemptions: int = 0
    moves: int = 0
    gpu_s: float = 0.0
    card: str = ""

    @property
    def jct_s(self) -> float | None:
        """Completion minus submission."""
        return None if self.end_s is None else self.end_s - self.job.submit_s
