"""States, outcomes, reasons and the literal table of moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from jobs.errors import Conflict


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class Event(StrEnum):
    """What can happen to a job."""

    STARTED = "started"  # an attempt was opened and its GPUs leased
    REQUEUED = "requeued"  # the attempt ended, and the job is to run again
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRANSITIONS: dict[tuple[JobState, Event], JobState] = {
    (JobState.QUEUED, Event.STARTED): JobState.RUNNING,
    (JobState.QUEUED, Event.CANCELLED): JobState.CANCELLED,
    (JobState.QUEUED, Event.FAILED): JobState.FAILED,
    (JobState.RUNNING, Event.REQUEUED): JobState.QUEUED,
    (JobState.RUNNING, Event.SUCCEEDED): JobState.SUCCEEDED,
    (JobState.RUNNING, Event.FAILED): JobState.FAILED,
    (JobState.RUNNING, Event.CANCELLED): JobState.CANCELLED,
}


def after(state: JobState, event: Event) -> JobState:
    """The state that follows. Raises Conflict on a move that is not in TRANSITIONS."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise Conflict(f"a {state} job can't be {event}") from None


class On(StrEnum):
    """At which end of one job another may start."""

    SUCCESS = "success"
    FAILURE = "failure"  # it failed, or was cancelled
    ANY = "any"


def opens(on: On, state: JobState) -> bool | None:
    """Whether what waits for `on` of a job in `state` may start. None while that job has not ended."""
    if state not in TERMINAL:
        return None
    return on is On.ANY or (state is JobState.SUCCEEDED) == (on is On.SUCCESS)


class Outcome(StrEnum):
    """How one attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the job's own fault: bad data, an exception in training
    OOM = "oom"  # the card's memory ran out
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"  # the job's own time limit
    PREEMPTED = "preempted"
    LOST = "lost"  # the host or the process went away without a word
    NOT_STARTED = "not_started"  # the ranks did not all come up
    HOST_FAULT = "host_fault"  # the host can't run a trainer, whatever the job: it is the host's fault
    DIVERGED = "diverged"  # the loss, its gradients or the weights are not finite numbers
    STORAGE = "storage"  # a folder on the host took no checkpoint or result: full, read-only, not permitted
    HOST_STOPPED = "host_stopped"  # the host's agent was told to end, and had it save first


class Code(StrEnum):
    """Why a job waits or why it ended; what programs match on."""

    # waiting
    NEW = "new"  # not yet looked at
    PROFILE_PENDING = "profile_pending"  # its memory profile is being traced
    PROFILE_FAILED = "profile_failed"  # it can't be traced; it is never placed on a guess
    NO_HOST = "no_host"  # every host is away or drained
    NO_CARD = "no_card"  # no host has such a card, label or memory
    LIBRARY = "library"  # no host has a library that it needs
    GANG = "gang"  # more GPUs than any host has
    MEMORY = "memory"  # the projected peak fits no card, even with checkpointing
    BUSY = "busy"  # it fits cards that others hold
    BEHIND = "behind"  # a job before it in the order waits for the same cards
    RESERVED = "reserved"  # cards that it fits are free, and kept for another job
    BACKOFF = "backoff"  # after a failure, until a time
    HELD = "held"  # somebody holds it: it does not start until it is released
    STORAGE = "storage"  # a folder on its host took no checkpoint or result; it is tried again
    AFTER = "after"  # another job must end first; or that one has ended so that this can never start
    QUOTA = "quota"  # its project has what it may have
    PREEMPTED = "preempted"  # it was stopped to make room
    ROOM = "room"  # others are being stopped for it
    # running
    STARTING = "starting"
    TRAINING = "training"
    STOPPING = "stopping"
    IDLE = "idle"  # it held its cards and did nothing (serve --idle-after); also of a job that ended so
    EARLY_STOP = "early_stop"  # it is among the worst of its sweep; also of a job that ended so
    # ended
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    OOM = "oom"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    LOST = "lost"
    NOT_STARTED = "not_started"
    DIVERGED = "diverged"  # what it trains is not finite numbers any more
    BAD_INPUT = "bad_input"


@dataclass(frozen=True)
class Reason:
    """A code for programs, a sentence for people, and the figures behind it (bytes, seconds, counts).

    code: a plain text where another version of tuneyard stored one that this version does not know.
    """

    code: Code | str
    text: str
    figures: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {"code": str(self.code), "text": self.text, "figures": self.figures}


def held(job_id: int, by: str, since: float) -> Reason:
    """Why a job waits that somebody holds. The time is in the figures: a text has no clock."""
    text = f"held{f' by {by}' if by else ''}: `tuneyard release {job_id}` lets it start"
    return Reason(Code.HELD, text, {"by": by, "since": since})
