"""The time of one lease, split into what it went for. Pure.

An attempt begins with its start-up. What it trained after its last checkpoint is lost where it neither succeeded nor
was cancelled; all of it, where it left no checkpoint of its own. What lies between is training, but for the time in
which the card did nothing, and for the share that checkpointing costs: steps are that much slower than without, as the
ladder projected it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from jobs.state import Outcome

# Ends by which no work is lost: it came to what it was to, or to what somebody wanted.
KEPT = (Outcome.SUCCEEDED, Outcome.CANCELLED)
# An attempt that has told no step trains by then, or its card idles: nobody can tell which but the card.
STARTUP_S = 600.0


@dataclass(frozen=True)
class Parts:
    """Seconds."""

    startup_s: float = 0.0
    training_s: float = 0.0
    recompute_s: float = 0.0
    lost_s: float = 0.0
    idle_s: float = 0.0

    @property
    def total_s(self) -> float:
        return self.startup_s + self.training_s + self.recompute_s + self.lost_s + self.idle_s

    def times(self, share: float) -> Parts:
        return Parts(**{one.name: getattr(self, one.name) * share for one in fields(self)})

    def plus(self, other: Parts) -> Parts:
        return Parts(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)})


@dataclass(frozen=True)
class Told:
    """What is known of an attempt. trained_from: when its first step began, None: it told none; steps, resumed_step,
    kept_step: how far it came, began and had saved; slowdown: 0.2 is 20 % slower than without checkpointing.
    """

    opened_at: float
    end: float
    outcome: Outcome | None
    trained_from: float | None
    steps: int = 0
    resumed_step: int = 0
    kept_step: int | None = None
    slowdown: float = 0.0


@dataclass(frozen=True)
class Phases:
    """An attempt's time: start-up until `trains`, work until `loses`, work that was lost until `end`."""

    begin: float
    trains: float
    loses: float
    end: float


def phases(told: Told) -> Phases:
    """When what began. begin <= trains <= loses <= end."""
    begin, end = told.opened_at, max(told.opened_at, told.end)
    trains = begin + STARTUP_S if told.trained_from is None else told.trained_from
    trains = min(end, max(begin, trains))
    if told.outcome is None or told.outcome in KEPT:
        return Phases(begin, trains, end, end)
    done = told.steps - told.resumed_step
    kept = -1 if told.kept_step is None else told.kept_step - told.resumed_step
    if kept <= 0 or done <= 0:
        return Phases(begin, begin, begin, end)
    lost = (end - trains) * max(0.0, done - kept) / done
    return Phases(begin, trains, max(trains, end - lost), end)


def split(found: Phases, since: float, until: float, idle_s: float, slowdown: float) -> Parts:
    """The part of an attempt that lies in a span. idle_s: of its work there. The parts add up to the time in it."""
    begin, end = max(found.begin, since), min(found.end, until)
    if end <= begin:
        return Parts()
    startup = _overlap(found.begin, found.trains, begin, end)
    lost = _overlap(found.loses, found.end, begin, end)
    work = max(0.0, end - begin - startup - lost)
    idle = min(max(0.0, idle_s), work)
    busy = work - idle
    recompute = busy * slowdown / (1 + slowdown) if slowdown > 0 else 0.0
    return Parts(startup, busy - recompute, recompute, lost, idle)


def _overlap(begin: float, end: float, since: float, until: float) -> float:
    return max(0.0, min(end, until) - max(begin, since))
