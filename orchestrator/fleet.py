"""The fleet snapshot: hosts, cards, queue and profiles at one instant. Immutable, plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from jobs.calibration import stack_name
from jobs.cards import Card, card_for
from jobs.profile import CardKind, MemoryProfile
from jobs.recovery import RanOut
from jobs.spec import JobSpec
from jobs.units import gib

Counted = Literal["yes", "under way", "no"]


@dataclass(frozen=True)
class Gpu:
    """A card. held_by: the job that leases it, None when it is free; price: of an hour of it, None when not set."""

    id: int
    uuid: str
    index: int
    kind: CardKind
    name: str
    memory_bytes: int
    fault: str | None = None
    held_by: int | None = None
    price: float | None = None

    @property
    def usable(self) -> bool:
        return self.fault is None

    @property
    def card(self) -> Card:
        found = card_for(self.kind, self.name, self.memory_bytes)
        return found if self.price is None else replace(found, price=self.price)

    @property
    def label(self) -> str:
        """Its name for people; CPU cards differ by memory alone."""
        return f"{self.name} {gib(self.memory_bytes)}"


@dataclass(frozen=True)
class Host:
    """A machine with cards. stack: library versions, which a profile depends on."""

    id: int
    name: str
    gpus: tuple[Gpu, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    stack: Mapping[str, str] = field(default_factory=dict)
    online: bool = True
    drained: bool = False
    ray_ready: bool = True

    @property
    def open(self) -> bool:
        """Whether new work may go there."""
        return self.online and not self.drained

    @property
    def stack_id(self) -> str:
        return stack_name(self.stack)


@dataclass(frozen=True)
class NoProfile:
    """Why there is no profile: an error in words, or None while it is being traced."""

    error: str | None = None


@dataclass(frozen=True)
class Waiting:
    """A queued job.

    keys: the key of its memory profile for each stack in the fleet (by stack_id); shaky: hosts on which an attempt of
    it was lost or never started: taken only when no other will do; family: of its model, for calibration; ran_out: the
    rungs on which it ran out of memory, oldest first; length: the longest sequence of its data in tokens, None where
    nobody counted; data_key, counted: of its data's lengths, and whether they are known ("yes", also where nobody
    could count them), being counted ("under way"), or were never asked for ("no").
    """

    job_id: int
    spec: JobSpec
    priority: int
    submitted_at: float
    keys: Mapping[str, str]
    not_before: float = 0.0
    shaky: frozenset[int] = frozenset()
    family: str = ""
    ran_out: tuple[RanOut, ...] = ()
    length: int | None = None
    data_key: str = ""
    counted: Counted = "yes"


@dataclass(frozen=True)
class Fleet:
    """Everything a plan is made from. profiles: by key; a key that is missing was never asked for."""

    hosts: tuple[Host, ...]
    queue: tuple[Waiting, ...]
    profiles: Mapping[str, MemoryProfile | NoProfile]
