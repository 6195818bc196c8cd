"""decide(history, ended, ...) -> Requeue | Finish: what follows when an attempt ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.cards import Card, CardKind
from jobs.jobfile.spec import JobSpec
from jobs.memory.remedies import against_divergence, against_memory
from jobs.memory.rung import Rung
from jobs.messages.reports import Ended
from jobs.state import Code, Event, Outcome, Reason
from jobs.units import counted, gib, span

# How the message of a trainer begins whose base model is at fault (workers/trainer/guarded.py).
SPOILT_FROM_THE_START = "diverged in step 1: the weights are not finite before it"
FIRST_BACKOFF_S = 5.0
LONGEST_BACKOFF_S = 600.0
# An attempt that only looks whether a folder has room again holds its card for a second or two.
LONGEST_STORAGE_BACKOFF_S = 120.0
# A start that nobody could make is tried again as long as that takes: what stood in its way may be gone any moment.
LONGEST_START_BACKOFF_S = 120.0
# A job whose host keeps vanishing under it is not tried for ever; a retry that made progress starts the count again.
MAX_LOST_IN_A_ROW = 5
# How often a job that ran out of memory is put on a smaller rung or a larger card, where the server does not say.
OOM_REQUEUES = 3


@dataclass(frozen=True)
class Past:
    """An earlier attempt, as far as a decision needs it. steps: the last optimizer step it reached."""

    outcome: Outcome
    steps: int


@dataclass(frozen=True)
class RanOut:
    """A rung on which an attempt of a job ran out of memory.

    card, card_bytes: of its card, or of its share of one that was shared; device_bytes: projected, upper_bytes: what
    that was to stay under.
    """

    rung: Rung
    kind: CardKind
    card: str
    card_bytes: int
    device_bytes: int
    upper_bytes: int
    shared: bool = False


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
    return min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** max(0, failures - 1))


def decide(
    history: Sequence[Past],
    ended: Ended,
    spec: JobSpec,
    cancel_requested: bool,
    ran_out: RanOut | None = None,
    oom_requeues: int = OOM_REQUEUES,
    because: Reason | None = None,
) -> Requeue | Finish:
    """What follows.

    because: why the scheduler ends it for good, None: it does not; history: the attempts before this one, oldest first;
    ran_out: the rung and card that this one had, to be told of
    where it ran out of memory; oom_requeues: how often a job may do so and still go on.
    """
    outcome = ended.outcome
    if outcome is Outcome.SUCCEEDED and spec.step is not None:
        return Finish(
            Event.SUCCEEDED,
            Reason(Code.SUCCEEDED, ended.message or f"{spec.step.kind} done", ended.made or {}),
        )
    if outcome is Outcome.SUCCEEDED:
        return Finish(
            Event.SUCCEEDED,
            Reason(Code.SUCCEEDED, f"{counted(ended.steps or 0, 'step')} done", {"steps": ended.steps}),
        )
    if because is not None:
        figures = {**because.figures, "steps": ended.steps}
        return Finish(Event.CANCELLED, Reason(because.code, because.text, figures))
    if cancel_requested or outcome is Outcome.CANCELLED:
        return Finish(
            Event.CANCELLED,
            Reason(Code.CANCELLED, f"cancelled at step {ended.steps}", {"steps": ended.steps}),
        )
    if outcome is Outcome.TIMEOUT:
        limit = spec.time_limit or 0.0
        return Finish(
            Event.FAILED,
            Reason(Code.TIMEOUT, f"its time limit of {span(limit)} has passed", {"time_limit_s": limit}),
        )
    if outcome is Outcome.OOM:
        return _out_of_memory(history, ended, ran_out, oom_requeues)
    if outcome is Outcome.STORAGE:
        return _no_storage(history, ended)
    if outcome is Outcome.FAILED and ended.bad_input:
        return Finish(Event.FAILED, Reason(Code.BAD_INPUT, ended.message))
    if outcome is Outcome.DIVERGED:
        return _diverged(ended, spec)
    if outcome is Outcome.FAILED:
        return _own_failure(history, ended, spec)
    if outcome is Outcome.HOST_FAULT:
        text = f"{ended.message}; that is the host's fault, and the job starts elsewhere or when the host is well"
        return Requeue(Reason(Code.BACKOFF, text))
    if outcome is Outcome.NOT_STARTED:
        return _not_started(history, ended)
    return _taken_away(history, ended)


def _out_of_memory(
    history: Sequence[Past], ended: Ended, ran_out: RanOut | None, oom_requeues: int
) -> Requeue | Finish:
    """Not the job's fault but the projection's: none of its retries is spent."""
    times = 1 + sum(past.outcome is Outcome.OOM for past in history)
    used = ended.device_bytes or ended.allocated_bytes
    text = f"memory ran out after step {ended.steps}" + (f" with {gib(used)} in use" if used else "")
    figures: dict[str, Any] = {
        "times": times,
        "oom_requeues": oom_requeues,
        "steps": ended.steps,
        "allocated_bytes": ended.allocated_bytes,
        "reserved_bytes": ended.reserved_bytes,
        "device_bytes": ended.device_bytes,
    }
    if ran_out is not None:
        text += f" on {ran_out.card} with {gib(ran_out.card_bytes)} ({ran_out.rung.label})"
        text += f"; projected {gib(ran_out.device_bytes)}, at most {gib(ran_out.upper_bytes)}"
        figures |= {
            "rung": ran_out.rung.label,
            "card_bytes": ran_out.card_bytes,
            "projected_device_bytes": ran_out.device_bytes,
            "projected_upper_bytes": ran_out.upper_bytes,
        }
    if times > oom_requeues:
        again = f", {times} times by now" if times > 1 else ""
        return Finish(
            Event.FAILED, Reason(Code.OOM, f"{text}{again}; not tried again: {ended.message}", figures)
        )
    text += (
        f"; continues from its last checkpoint on a smaller rung or a larger card ({times} of {oom_requeues})"
    )
    return Requeue(Reason(Code.OOM, text, figures))


def spent(ran_out: Iterable[RanOut], card: Card, high: float) -> tuple[frozenset[Rung], int | None]:
    """What a job that ran out of memory must not be given again on this card: rungs, and a ceiling in bytes.

    A rung that ran out on a card of this size, or on a larger one, is out; so is every one that is projected to need
    as much. high: what upper bounds here are above their projection at least; they must stay below the ceiling.
    None: no ceiling.
    """
    here = [past for past in ran_out if past.kind == card.kind and past.card_bytes >= card.memory_bytes]
    ceiling = min((round(past.device_bytes * (1 + high)) for past in here), default=None)
    return frozenset(past.rung for past in here), ceiling


def nothing_smaller(ran_out: Sequence[RanOut], spec: JobSpec, misfit: Reason) -> Reason:
    """Why a job that ran out of memory ends. misfit: what every card of the fleet says to it."""
    last = ran_out[-1]
    text = (
        f"memory ran out on {last.card} with {gib(last.card_bytes)} ({last.rung.label}), and nothing that needs less "
        f"fits any card: {misfit.text.removeprefix('fits no card: ')}"
    )
    helps = suggestions(spec)
    figures = {
        **misfit.figures,
        "times": len(ran_out),
        "rungs": [past.rung.label for past in ran_out],
        "projected_device_bytes": last.device_bytes,
        "projected_upper_bytes": last.upper_bytes,
        "card_bytes": last.card_bytes,
        "suggestions": helps,
    }
    return Reason(Code.OOM, text, figures)


def suggestions(spec: JobSpec) -> list[str]:
    """What would need less memory, in words."""
    return [*map(str, against_memory(spec)), "a larger card"]


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


def _diverged(ended: Ended, spec: JobSpec) -> Finish:
    """The same data, seed and settings would end the same way: none of its retries is tried."""
    if ended.message.startswith(SPOILT_FROM_THE_START):
        helps = ["another base model, or a whole copy of this one: its own weights are not finite"]
        figures: dict[str, Any] = {"steps": ended.steps, "suggestions": helps}
    else:
        figures = {"steps": ended.steps, "suggestions": [str(one) for one in against_divergence(spec)]}
    return Finish(Event.FAILED, Reason(Code.DIVERGED, ended.message, figures))


def _no_storage(history: Sequence[Past], ended: Ended) -> Requeue:
    """A folder took nothing: the host's fault, and for people to fix. It is tried as long as that takes."""
    in_a_row = 1
    for past in reversed(history):
        if past.outcome is not Outcome.STORAGE:
            break
        in_a_row += 1
    delay = min(LONGEST_STORAGE_BACKOFF_S, backoff_s(in_a_row))
    figures = {"attempts": in_a_row, "steps": ended.steps, "delay_s": delay}
    return Requeue(Reason(Code.STORAGE, ended.message, figures), delay)


def _not_started(history: Sequence[Past], ended: Ended) -> Requeue:
    """No trainer came up, or not all did. A job that did not run can't be why, however often."""
    in_a_row = 1
    for past in reversed(history):
        if past.outcome is Outcome.HOST_FAULT:
            continue
        if past.outcome is not Outcome.NOT_STARTED:
            break
        in_a_row += 1
    delay = min(LONGEST_START_BACKOFF_S, backoff_s(in_a_row))
    text = f"{ended.message}; that is not the job's fault, and it is tried again in {span(delay)}"
    return Requeue(Reason(Code.BACKOFF, text, {"attempts": in_a_row, "delay_s": delay}), delay)


def _taken_away(history: Sequence[Past], ended: Ended) -> Requeue | Finish:
    """Lost, preempted, stopped with its host: not the job's fault, so none of its retries is spent."""
    in_a_row, steps = 1, ended.steps
    for past in reversed(history):
        if past.outcome in (Outcome.HOST_FAULT, Outcome.NOT_STARTED):
            continue
        if past.outcome is not Outcome.LOST or past.steps < steps:
            break
        in_a_row, steps = in_a_row + 1, past.steps
    if ended.outcome is Outcome.PREEMPTED:
        return Requeue(
            Reason(Code.PREEMPTED, f"stopped at step {ended.steps}; continues from its checkpoint")
        )
    if ended.outcome is Outcome.HOST_STOPPED:
        text = f"its host was stopped at step {ended.steps}; continues from its checkpoint"
        return Requeue(Reason(Code.BACKOFF, text))
    if in_a_row >= MAX_LOST_IN_A_ROW:
        text = f"{in_a_row} attempts in a row made no progress; not tried again: {ended.message}"
        return Finish(Event.FAILED, Reason(Code.LOST, text, {"attempts": in_a_row}))
    delay = backoff_s(in_a_row) if in_a_row > 1 else 0.0
    return Requeue(
        Reason(Code.BACKOFF, f"{ended.message}; continues from its last checkpoint", {"delay_s": delay}),
        delay,
    )
