"""The fleet snapshot: hosts, cards, queue and profiles at one instant. Immutable, plain data."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from jobs.cards import Card, CardKind, card_for
from jobs.jobfile.spec import JobSpec
from jobs.memory.calibration.observations import stack_name
from jobs.memory.profile import MemoryProfile
from jobs.recovery import RanOut
from jobs.state import Reason
from jobs.units import gib

DEFAULT_PROJECT = "default"

Counted = Literal["yes", "under way", "no"]


@dataclass(frozen=True)
class Gpu:
    """A card. held_by: the job that leases it, None when it is free; price: of an hour of it, None when not set.

    expandable: whether segments of torch's CUDA allocator can expand there.
    """

    id: int
    uuid: str
    index: int
    kind: CardKind
    name: str
    memory_bytes: int
    fault: str | None = None
    held_by: int | None = None
    price: float | None = None
    expandable: bool = True

    @property
    def usable(self) -> bool:
        return self.fault is None

    @property
    def card(self) -> Card:
        found = card_for(self.kind, self.name, self.memory_bytes)
        if self.price is None and self.expandable:
            return found
        return replace(found, price=self.price, expandable=self.expandable)

    @property
    def label(self) -> str:
        """Its name for people; CPU cards differ by memory alone."""
        return f"{self.name} {gib(self.memory_bytes)}"


@dataclass(frozen=True)
class Host:
    """A machine with cards.

    stack: library versions, which a profile depends on; left: its agent was stopped; fault: why no trainer can start
    there for now, in words.
    """

    id: int
    name: str
    gpus: tuple[Gpu, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    stack: Mapping[str, str] = field(default_factory=dict)
    online: bool = True
    drained: bool = False
    ray_ready: bool = True
    left: bool = False
    fault: str | None = None

    @property
    def takes(self) -> bool:
        """Whether a trainer can start there at once."""
        return self.open and self.ray_ready

    @property
    def open(self) -> bool:
        """Whether new work may go there."""
        return self.online and not self.drained and self.fault is None

    @cached_property
    def stack_id(self) -> str:
        return stack_name(self.stack)


@dataclass(frozen=True)
class NoProfile:
    """Why there is no profile: an error in words, or None while it is being traced."""

    error: str | None = None


@dataclass(frozen=True)
class PendingJob:
    """A queued job.

    keys: the key of its memory profile for each stack in the fleet (by stack_id); shaky: hosts on which an attempt of
    it was lost or never started: taken only when no other will do; family, quantisation: of its model, for
    calibration; ran_out: the rungs on which it ran out of memory, oldest first; length: the longest sequence of its
    data in tokens, None where nobody counted; means: pairs of a micro-batch and the mean length that its rows are
    padded to; fullest: of one and the most tokens in it that are no padding; sample: lengths of some rows of its
    data; equal_rows: all sequences are known to be of one length; data_key, counted: of its data's lengths, and
    whether they are known ("yes", also where nobody could count them), being counted ("under way"), or were never
    asked for ("no"). project, user: who it is charged to; waiting_since: when it was queued last, None: at
    submission; attained_gpu_s: what it held in earlier attempts; steps_done, steps_left: optimizer steps up to its
    last checkpoint, and from there to its end, None where nobody knows; blocked: why it may not start whatever is
    free (a job that it comes after), None where nothing keeps it; apart: jobs beside which it was too slow on a
    shared card, or they beside it; across: whether a gang larger than any host may span several; home: the host where
    its checkpoint is, None: it has none, or anywhere will do; checkpoint_bytes: of it, 0: not known; shape: jobs of
    one shape fit the same cards on the same rungs, None: like no other; revision: of its job file; needs: packages
    that the files of its model ask for, each with what needs it; generation: a number that another has as soon as
    anything of the job is another, 0: nobody counts.
    """

    job_id: int
    spec: JobSpec
    priority: int
    submitted_at: float
    keys: Mapping[str, str]
    not_before: float = 0.0
    rests: Reason | None = (
        None  # why it may not start before, where more is known than that an attempt failed
    )
    shaky: frozenset[int] = frozenset()
    family: str = ""
    quantisation: str = ""
    ran_out: tuple[RanOut, ...] = ()
    length: int | None = None
    means: tuple[tuple[int, int], ...] = ()
    fullest: tuple[tuple[int, int], ...] = ()
    sample: tuple[int, ...] = ()
    equal_rows: bool = False
    data_key: str = ""
    counted: Counted = "yes"
    project: str = DEFAULT_PROJECT
    user: str = ""
    waiting_since: float | None = None
    attained_gpu_s: float = 0.0
    steps_done: float = 0.0
    steps_left: float | None = None
    blocked: Reason | None = None
    apart: frozenset[int] = frozenset()
    across: bool = False
    home: int | None = None
    checkpoint_bytes: int = 0
    shape: Hashable = None
    revision: int = 0
    needs: tuple[tuple[str, str], ...] = ()
    generation: int = field(default=0, compare=False)

    @property
    def shares(self) -> bool:
        """Whether others may share its card: one that ran out of its share has a card to itself from then on."""
        return self.spec.resources.share and not any(past.shared for past in self.ran_out)


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job with an open attempt.

    started_at: of this attempt; attained_gpu_s: GPU-seconds held in earlier attempts, this one not counted; ends_at:
    its end at the pace it has on these cards, None where nobody knows; spread: the share of the time until then by
    which that may be off; stopping_until: when its cards are expected back, where it was asked to stop; stopping_for:
    the job that it was asked for, None: for none; asked_at: when it was asked, None where nobody knows; shares: whether
    others may share its cards; upper_bytes: of each of them that it may take; movable: whether it may be stopped, to
    go on from a checkpoint.
    """

    job_id: int
    attempt_id: int
    host_id: int
    gpu_ids: tuple[int, ...]
    priority: int
    submitted_at: float
    started_at: float
    project: str = DEFAULT_PROJECT
    user: str = ""
    attained_gpu_s: float = 0.0
    ends_at: float | None = None
    spread: float = 0.0
    stopping_until: float | None = None
    shares: bool = False
    upper_bytes: int = 0
    movable: bool = True
    stopping_for: int | None = None
    asked_at: float | None = None


@dataclass(frozen=True)
class Project:
    """What a project may count on. guarantee: GPUs that are its own when it wants them, None: it has only its share;

    weight: of its fair share; borrows: whether it may use what others leave idle.
    """

    guarantee: int | None = None
    weight: float = 1.0
    borrows: bool = True


@dataclass(frozen=True)
class Fleet:
    """Everything a plan is made from.

    profiles: by key; a key that is missing was never asked for. projects: by name, those with terms of their own.
    usage: decayed GPU-seconds weighted by card price, by (project, user), running attempts among them. movable: running
    jobs as they would wait if they were stopped now, where the rules may move them. cleared: cards that a job gave back
    when it was stopped for another and that nobody had since, each with the job that it was stopped for.
    """

    hosts: tuple[Host, ...]
    queue: tuple[PendingJob, ...]
    profiles: Mapping[str, MemoryProfile | NoProfile]
    running: tuple[RunningJob, ...] = ()
    projects: Mapping[str, Project] = field(default_factory=dict)
    usage: Mapping[tuple[str, str], float] = field(default_factory=dict)
    movable: Mapping[int, PendingJob] = field(default_factory=dict)
    cleared: Mapping[int, int] = field(default_factory=dict)
