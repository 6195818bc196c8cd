"""decide(history, ended, ...) -> Requeue | Finish: what follows when an attempt ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.report import Ended
from jobs.spec import JobSpec
from jobs.state import Code, Event, Outcome, Reason
from jobs.units import gib, span

FIRST_BACKOFF_S = 5.0
LONGEST_BACKOFF_S = 600.0
# A job whose host keeps vanishing under it is not tried for ever; a retry that made progress starts the count anew.
MAX_LOST_IN_A_ROW = 5


@dataclass(frozen=True)
class Past:
    """An earlier attempt, as far as a decision needs it. steps: the last optimizer step it reached."""

    outcome: Outcome
    steps: int


@dataclass(frozen=True)
class Requeue:
    """The job runs again, not before `delay_s` from now."""

    reason: Reason
    delay_s: float = 0.0
    event: Event = Event.REQUEUED


@dataclass(frozen=True)
class Finish:
    """The job is over."""

    event: Event
    reason: Reason


def backoff_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 5, 10, 20 .. 600."""
    return min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** max(0, failures - 1))


def decide(history: Sequence[Past], ended: Ended, spec: JobSpec, cancel_requested: bool) -> Requeue | Finish:
    """What follows. history: the attempts before this one, oldest first."""
    outcome = ended.outcome
    if outcome is Outcome.SUCCEEDED:
        return Finish(
            Event.SUCCEEDED, Reason(Code.SUCCEEDED, f"{ended.steps} steps done", {"steps": ended.steps})
        )
    if cancel_requested or outcome is Outcome.CANCELLED:
        return Finish(
            Event.CANCELLED,
            Reason(Code.CANCELLED, f"cancelled at step {ended.steps}", {"steps": ended.steps}),
        )
    if outcome is Outcome.TIMEOUT:
        limit = spec.time_limit or 0.0
        return Finish(
            Event.FAILED,
            Reason(Code.TIMEOUT, f"its time limit of {span(limit)} is over", {"time_limit_s": limit}),
        )
    if outcome is Outcome.OOM:
        return Finish(Event.FAILED, _oom(ended))
    if outcome is Outcome.FAILED:
        return _own_failure(history, ended, spec)
    return _taken_away(history, ended)


def _oom(ended: Ended) -> Reason:
    used = ended.device_bytes or ended.allocated_bytes
    held = f" with {gib(used)} in use" if used else ""
    return Reason(
        Code.OOM,
        f"the card's memory ran out at step {ended.steps}{held}: {ended.message}",
        {"steps": ended.steps, "device_bytes": ended.device_bytes, "allocated_bytes": ended.allocated_bytes},
    )


def _own_failure(history: Sequence[Past], ended: Ended, spec: JobSpec) -> Requeue | Finish:
    failures = 1 + sum(past.outcome is Outcome.FAILED for past in history)
    if failures > spec.retries:
        tries = f" after {failures} tries" if failures > 1 else ""
        return Finish(
            Event.FAILED, Reason(Code.FAILED, f"failed{tries}: {ended.message}", {"failures": failures})
        )
    delay = backoff_s(failures)
    text = f"failed ({ended.message}); try {failures + 1} of {spec.retries + 1} in {span(delay)}"
    return Requeue(Reason(Code.BACKOFF, text, {"failures": failures, "delay_s": delay}), delay)


def _taken_away(history: Sequence[Past], ended: Ended) -> Requeue | Finish:
    """Lost, preempted or never started: not the job's fault, so none of its retries is spent."""
    in_a_row, steps = 1, ended.steps
    for past in reversed(history):
        if past.outcome not in (Outcome.LOST, Outcome.NOT_STARTED) or past.steps < steps:
            break
        in_a_row, steps = in_a_row + 1, past.steps
    code = Code.NOT_STARTED if ended.outcome is Outcome.NOT_STARTED else Code.LOST
    if ended.outcome is Outcome.PREEMPTED:
        return Requeue(
            Reason(Code.BACKOFF, f"stopped at step {ended.steps} to make room; runs on from its checkpoint")
        )
    if in_a_row >= MAX_LOST_IN_A_ROW:
        text = f"given up after {in_a_row} attempts without progress: {ended.message}"
        return Finish(Event.FAILED, Reason(code, text, {"attempts": in_a_row}))
    delay = backoff_s(in_a_row) if in_a_row > 1 else 0.0
    return Requeue(
        Reason(Code.BACKOFF, f"{ended.message}; runs on from its last checkpoint", {"delay_s": delay}), delay
    )
