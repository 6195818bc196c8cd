"""What fit() came to: a configuration on the rung that fits, why, and a guard for the run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from jobs.memory.ladder import Choice
from jobs.memory.profile import MemoryProfile
from jobs.memory.project import Projection, Rung
from jobs.memory.sequence_lengths import Lengths
from workers.fit.card import Here
from workers.fit.guard import Guard, StepDown
from workers.fit.report import report
from workers.fit.request import Request

TrainerT = TypeVar("TrainerT")


@dataclass(frozen=True)
class Fitted:
    """config: a copy of the one that was given, on the chosen rung; changes: its fields that differ, from and to;
    choice: the rung with every other one that was looked at; lengths: of the rows, None where nobody counted."""

    config: Any
    changes: dict[str, tuple[Any, Any]]
    choice: Choice
    here: Here
    request: Request
    profile: MemoryProfile
    lengths: Lengths | None
    notes: tuple[str, ...]

    @property
    def rung(self) -> Rung:
        return self.choice.rung

    @property
    def projection(self) -> Projection:
        """Bytes by part and phase, the upper bound, and the time of a step."""
        return self.choice.projection

    @cached_property
    def callback(self) -> Guard:
        """For `callbacks=[..]` of a trainer: steps down before memory runs out. It can't catch that it did: guard()."""
        return Guard(self.here, self.choice.tried, self.rung, self.projection.upper_bytes)

    def guard(self, trainer: TrainerT) -> TrainerT:
        """The trainer, with its training step guarded: memory that ran out there costs one step, not the run.

        Raises UsageError for a trainer that was made with another configuration, or for another card.
        """
        self.callback.attach(trainer)
        return trainer

    @property
    def events(self) -> list[StepDown]:
        """Steps down the ladder since the training began."""
        return self.callback.events

    def __str__(self) -> str:
        return report(self)
