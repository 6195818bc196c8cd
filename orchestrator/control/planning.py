"""plan(), which no queued job ends for the others: one that it raises for is found, left alone, and told."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from jobs.errors import Unavailable
from orchestrator.control.quarantine import Quarantine
from orchestrator.scheduler.fleet import Fleet, PendingJob
from orchestrator.scheduler.plan import Plan

DECIDING = "deciding where it starts"
MOST = 8  # jobs that one round finds; each takes some dozen plans to find, and the next round has more


def planned(
    fleet: Fleet, now: float, decide: Callable[[Fleet], Plan], quarantine: Quarantine
) -> tuple[Fleet, Plan]:
    """What decide() says, and of which fleet: without the jobs that it raises for.

    Raises what it raises where no job of the queue is the cause.
    """
    waiting = quarantine.each("job", fleet.queue, lambda job: job.job_id, DECIDING, now)
    fleet = fleet if len(waiting) == len(fleet.queue) else _with(fleet, waiting)
    for _ in range(MOST):
        try:
            decided = decide(fleet)
        except Unavailable:
            raise
        except Exception as error:  # of a pure function: one of the jobs is the cause, or the fleet
            culprit = _culprit(fleet, decide)
            if culprit is None:
                raise
            with quarantine.part("job", culprit, DECIDING, now, culprit):
                raise error
            fleet = _with(fleet, [job for job in fleet.queue if job.job_id != culprit])
        else:
            for entry in quarantine.entries():
                if entry.doing == DECIDING and any(job.job_id == entry.key for job in fleet.queue):
                    with quarantine.part("job", entry.key, DECIDING, now):
                        pass  # it was decided on
            return fleet, decided
    return fleet, decide(fleet)


def _culprit(fleet: Fleet, decide: Callable[[Fleet], Plan]) -> int | None:
    """The id of a job for which decide() raises, by halves; None where it does so without any, or only for several."""
    queue = list(fleet.queue)
    if not queue or _raises(_with(fleet, []), decide):
        return None
    while len(queue) > 1:
        first, second = queue[: len(queue) // 2], queue[len(queue) // 2 :]
        half = next((half for half in (first, second) if _raises(_with(fleet, half), decide)), None)
        if half is None:
            return None
        queue = half
    return queue[0].job_id


def _raises(fleet: Fleet, decide: Callable[[Fleet], Plan]) -> bool:
    try:
        decide(fleet)
    except Exception:  # that it does is what was asked
        return True
    return False


def _with(fleet: Fleet, queue: list[PendingJob]) -> Fleet:
    return dataclasses.replace(fleet, queue=tuple(queue))
