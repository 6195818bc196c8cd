"""What the store gives: frozen rows, JSON already read. Times are Unix seconds, memory is bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jobs.cards import CardKind
from jobs.state import TERMINAL, JobState, On, Outcome, Reason
from orchestrator.store.engine.text import is_text


@dataclass(frozen=True)
class JobRow:
    """A job. reason says why it waits, or why it ended."""

    id: int
    name: str
    user: str
    state: JobState
    reason: Reason
    spec_json: str
    priority: int
    submitted_at: float
    started_at: float | None = None  # its first attempt
    ended_at: float | None = None
    cancel_requested_at: float | None = None
    not_before: float | None = None  # back-off: not to start before
    project: str = "default"
    group_id: int | None = None  # the first job of the sweep that it is of
    queued_at: float = (
        0.0  # when it was queued last: at its submission, or at its last requeue; less what it was held
    )
    held_at: float | None = None  # it does not start until it is released
    held_by: str | None = None
    revision: int = 0  # how often its spec was changed
    continues: int | None = None  # the job whose checkpoints it goes on from
    uuid: str = ""
    step_of: int | None = None  # the job whose training it follows; None: it trains itself

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The spec as a mapping, read on first use: most rows of a long queue are only counted."""
        if not is_text(self.spec_json):
            raise ValueError("its spec is no UTF-8 text")
        value: dict[str, Any] = json.loads(self.spec_json)
        return value

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL


@dataclass(frozen=True)
class LinkRow:
    """What a job waits for, or waited for. state: of that other job."""

    job_id: int
    after_id: int
    on: On
    state: JobState


@dataclass(frozen=True)
class MemberLoss:
    """A job of a sweep. reached: whether it has come to the step that was asked for; loss: when it first had one from
    there on, None where it has not, or where its loss is no number any more.
    """

    job_id: int
    state: JobState
    reached: bool
    loss: float | None


@dataclass(frozen=True)
class ProjectRow:
    """A project with terms of its own. guarantee: GPUs, None: it has only its share; weight: of its share;

    borrows: whether it may use what others leave idle.
    """

    name: str
    guarantee: int | None = None
    weight: float = 1.0
    borrows: bool = True


@dataclass(frozen=True)
class UsageRow:
    """GPU-seconds of a project and user on one card type, decayed; of a shared card, the share of its memory."""

    project: str
    user: str
    gpu: str
    gpu_s: float


@dataclass(frozen=True)
class LeasedGpu:
    """A card that an attempt holds or held, in rank order."""

    id: int
    uuid: str
    index: int
    kind: str
    name: str
    memory_bytes: int
    exclusive: bool = True
    host_id: int = 0
    host: str = ""


@dataclass(frozen=True)
class AttemptRow:
    """One try of a job. Open while outcome is None. host: of rank 0; which others take part, its cards tell."""

    id: int
    job_id: int
    number: int  # within its job, from 1: the fencing token
    host_id: int
    host: str
    gpus: tuple[LeasedGpu, ...]
    rung: dict[str, Any]
    projection: dict[str, Any]
    opened_at: float
    dispatched_at: float | None
    started_at: float | None  # by the host's clock
    started: dict[str, Any] | None  # jobs.messages.reports.Started
    stop_requested_at: float | None
    stop_reason: str | None  # the reason of jobs.messages.reports.StopOrder
    log_bytes: int
    reported: (
        dict[str, Any] | None
    )  # jobs.messages.reports.Ended as the host said it; of several hosts see orchestrator.control.outcomes
    outcome: Outcome | None
    message: str
    ended_at: float | None
    steps: int | None
    last_checkpoint: str | None
    result: str | None
    measured: (
        dict[str, Any] | None
    )  # allocated, reserved, device bytes; step_s, train_s, tokens_per_s; losses
    basis: dict[str, Any] | None = None  # what the projection stood on
    stop_for: int | None = None  # the job that it was asked to make room for
    resumed: dict[str, Any] | None = None  # jobs.messages.reports.Resumed
    checkpoints: list[dict[str, Any]] | None = (
        None  # jobs.messages.reports.Checkpoint of each on its host, newest first
    )
    uuid: str = ""

    @property
    def shared(self) -> bool:
        """Whether others may share its cards."""
        return any(not gpu.exclusive for gpu in self.gpus)

    @property
    def hosts(self) -> dict[int, str]:
        """Names by id of the hosts that take part, in rank order: that of rank 0 comes first."""
        return {self.host_id: self.host, **{gpu.host_id: gpu.host for gpu in self.gpus if gpu.host}}


@dataclass(frozen=True)
class HostRow:
    """A host. Whether it is away is judged by last_seen (orchestrator.control.host_silence)."""

    id: int
    name: str
    info: dict[str, Any]  # jobs.messages.reports.HostInfo
    boot: str | None
    joined_at: float
    last_seen: float
    drained: bool
    ray_ready: bool
    running: tuple[int, ...]  # attempt ids with a live process, as last reported
    fault: str | None = None  # why no trainer can start there; None once one did, or its agent joined
    fault_at: float | None = None
    fault_times: int = 0  # in a row
    disks: list[dict[str, Any]] | None = None  # jobs.messages.reports.Disk of each, as last reported
    aside: list[dict[str, Any]] | None = None  # jobs.identity.Aside of what was set aside there

    @property
    def left(self) -> bool:
        """Whether its agent said that it ends, and no other has joined since."""
        return self.boot == ""


@dataclass(frozen=True)
class Holder:
    """An attempt that holds a card now. memory_bytes: promised to it."""

    attempt_id: int
    job_id: int
    exclusive: bool
    memory_bytes: int


@dataclass(frozen=True)
class GpuRow:
    """A card, with the attempts that hold it now: one exclusively, or several that share it, oldest first."""

    id: int
    uuid: str
    host_id: int
    host: str
    index: int
    kind: CardKind
    name: str
    memory_bytes: int
    fault: str | None
    present: bool
    expandable: bool = True
    holders: tuple[Holder, ...] = ()

    @property
    def attempt_id(self) -> int | None:
        """The first that holds it."""
        return self.holders[0].attempt_id if self.holders else None

    @property
    def job_id(self) -> int | None:
        """The job of the first that holds it."""
        return self.holders[0].job_id if self.holders else None

    @property
    def shared(self) -> bool:
        """Whether it is held, and by none exclusively."""
        return bool(self.holders) and not any(holder.exclusive for holder in self.holders)


@dataclass(frozen=True)
class ProfileRow:
    """A memory profile that was asked for: pending until it has a profile or an error."""

    key: str
    spec: dict[str, Any]
    profile: dict[str, Any] | None
    error: str | None
    bad_input: bool
    host_id: int | None
    requested_at: float
    assigned_at: float | None
    ended_at: float | None

    @property
    def pending(self) -> bool:
        return self.profile is None and self.error is None


@dataclass(frozen=True)
class LengthsRow:
    """Lengths of a job's data that were asked for: pending until there are lengths or an error."""

    key: str
    spec: dict[str, Any]
    lengths: dict[str, Any] | None
    error: str | None
    host_id: int | None
    requested_at: float
    ended_at: float | None
    bad_input: bool = False
    missing: bool = False

    @property
    def pending(self) -> bool:
        return self.lengths is None and self.error is None


@dataclass(frozen=True)
class EventRow:
    """Something that happened. kind is a jobs.state.Event or a Note; attempt is its number within the job."""

    id: int
    ts: float
    job_id: int | None
    attempt_id: int | None
    attempt: int | None
    host_id: int | None
    kind: str
    text: str
    data: dict[str, Any]
    actor: str | None = None  # who asked for it, as the client says; None: nobody did
    address: str | None = None  # from where
    gpu_id: int | None = None


@dataclass(frozen=True)
class ActionRow:
    """An event. subject: the job, card, host or project that it is about, in words; host: where it happened."""

    event: EventRow
    subject: str
    host: str | None = None


@dataclass(frozen=True)
class ProgressRow:
    """One line of an attempt's progress (jobs.messages.reports.Progress)."""

    attempt_id: int
    step: int
    ts: float
    total_steps: int
    loss: float | None
    learning_rate: float | None
    tokens: int
    tokens_per_s: float | None
    step_s: float | None
    allocated_bytes: int | None
    reserved_bytes: int | None
    device_bytes: int | None
    loss_text: str | None = None
    skipped: int = 0
    grad_norm: float | None = None

    @property
    def eta_s(self) -> float | None:
        """Seconds of training left at the present pace."""
        return None if self.step_s is None else max(0, self.total_steps - self.step) * self.step_s


@dataclass(frozen=True)
class EvaluationRow:
    """The loss on the rows that are held out (jobs.messages.reports.Evaluated)."""

    attempt_id: int
    step: int
    ts: float
    loss: float | None
    loss_text: str | None = None


@dataclass(frozen=True)
class JobView:
    """A job as lists show it: with its latest attempt, that attempt's latest progress and evaluation, and what it
    waits for.
    """

    job: JobRow
    attempt: AttemptRow | None
    progress: ProgressRow | None
    links: tuple[LinkRow, ...] = ()
    evaluation: EvaluationRow | None = None


@dataclass(frozen=True)
class FleetRows:
    """What the scheduler reads, all at one instant."""

    hosts: list[HostRow]
    gpus: list[GpuRow]
    queued: list[JobRow]  # in starting order
    attempts: list[AttemptRow]  # open ones
    running: list[JobRow] = field(default_factory=list)  # the jobs of those, by id
    progress: dict[int, ProgressRow] = field(default_factory=dict)  # the latest of each of those
    links: dict[int, list[LinkRow]] = field(default_factory=dict)  # unmet, by the queued job that waits
    projects: list[ProjectRow] = field(default_factory=list)
    attained: dict[int, float] = field(default_factory=dict)  # GPU-seconds of earlier attempts, by job
    usage: list[UsageRow] = field(default_factory=list)
    cleared: dict[int, int] = field(default_factory=dict)  # cards given back for a queued job, and for which
