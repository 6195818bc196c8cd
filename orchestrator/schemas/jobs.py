"""Jobs, their attempts, events and groups."""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict  # pydantic reads these, and before Python 3.12 it needs this one

from orchestrator.schemas.common import GpuName, PlanData, ProjectionShape, ReasonShape, RungShape, Unreadable


class ProgressShape(TypedDict):
    step: int
    total_steps: int
    loss: float | None
    loss_text: str | None  # "nan", "inf" or "-inf" where loss is null for that reason
    skipped: int  # steps of the attempt whose update was left out
    tokens_per_s: float | None
    eta_s: float | None
    ts: float  # of the step, by the host's clock
    step_s: float | None
    age_s: float | None  # since then, while the job runs
    stalled: bool  # far longer than its steps take: the pace and the time to go are not told then


class EvaluationShape(TypedDict):
    """The last evaluation."""

    step: int
    loss: float | None
    loss_text: str | None  # "nan", "inf" or "-inf" where loss is null


class AfterShape(TypedDict):
    """What a job waits for, or waited for. state: of that other job."""

    job: int
    on: str
    state: str


class StartShape(TypedDict):
    """When a queued job is likely to start, Unix seconds. latest: null where nobody can tell."""

    earliest: float
    latest: float | None


class SilenceShape(TypedDict):
    """A host that is not there. since: when it was heard of last, Unix seconds; stopped: it said that it ends;
    given_up_at: when what runs there counts as lost, unless it is heard of before.
    """

    host: str
    stopped: bool
    since: float
    given_up_at: float


class Job(TypedDict):
    """One row of `GET /jobs`."""

    id: int
    name: str
    state: str
    reason: ReasonShape
    user: str
    priority: int
    gpus: int
    method: str
    model: str
    trainer: str
    submitted_at: float
    started_at: float | None
    ended_at: float | None
    attempts: int
    progress: ProgressShape | None
    evaluation: EvaluationShape | None  # of the rows that are held out (data.holdout)
    host: str | None
    hosts: list[str]  # all that take part, that of rank 0 first
    silent: SilenceShape | None  # of a running job: a host of it that is not there; what it does is not known
    cards: list[str]
    rung: str | None
    projected_bytes: int | None
    measured_bytes: int | None
    cancel_requested: bool
    start: StartShape | None
    project: str
    group: int | None  # the first job of the sweep that it is of
    step: str | None  # what it does to another's result, such as merge; null where it trains
    step_of: int | None  # that other job
    after: list[AfterShape]


class GoesOn(TypedDict):
    """What a requeued job goes on from. step: 0 where it begins again, None where only a host that is away can tell."""

    job: int | None
    step: int | None
    text: str
    changes: list[str]


class Requeued(Job):
    """`POST /jobs/{id}/requeue`: the new job."""

    goes_on: GoesOn


class Changed(Job):
    """`PATCH /jobs/{id}`: the job as it is now. replaced: what changed besides the keys that were asked for."""

    replaced: list[str]


class MeasuredShape(TypedDict):
    allocated_bytes: int | None
    reserved_bytes: int | None
    device_bytes: int | None
    step_s: float | None
    tokens_per_s: float | None


class Attempt(TypedDict):
    id: int
    number: int
    host: str  # of rank 0
    hosts: list[str]
    gpus: list[GpuName]
    card_bytes: int | None  # that it may have of each card
    rung: RungShape | None
    projection: ProjectionShape | None
    measured: MeasuredShape | None
    errors: (
        dict[str, float | None] | None
    )  # by name in measured: measured / projected - 1, None: not comparable
    not_comparable: str | None  # why its memory is not: no_peak, roomy_card
    outcome: str | None
    message: str | None
    steps: int | None
    total_steps: int | None
    first_loss: float | None
    last_loss: float | None  # the last one that is finite
    last_loss_text: str | None  # of the last line of progress, where its loss is not: nan, inf, -inf
    skipped: int  # steps whose update was left out
    eval_loss: float | None
    opened_at: float
    started_at: float | None
    ended_at: float | None
    last_checkpoint: str | None  # a folder on its host; checkpoints_gone: whether it is still there
    resumed: dict[str, Any] | None  # {ts, step, job_id}; step: None where it began at 0
    checkpoints: list[dict[str, Any]]  # {step, bytes, ts, whole} on its host, newest first
    checkpoints_gone: (
        str | None
    )  # why none of those it made is there: unneeded (its job ended), replaced (by later)
    result: str | None
    made: dict[str, Any] | None  # what a step found, by name


class StepShape(TypedDict):
    """A step that follows a job's training. made: what it found, by name, once it has succeeded."""

    job: int
    kind: str
    state: str
    reason: ReasonShape
    made: dict[str, Any] | None
    result: str | None
    host: str | None


class EventShape(TypedDict):
    ts: float
    kind: str
    text: str
    attempt: int | None
    by: str | None  # who asked for it, as the client states it
    address: str | None  # where that came from


class ActionShape(TypedDict):
    """Something that somebody asked for. subject: the job, host or project that it is about."""

    id: int
    ts: float
    kind: str
    text: str
    subject: str
    job: int | None
    by: str
    address: str


class ActionPage(TypedDict):
    """`GET /audit`, newest first."""

    actions: list[ActionShape]
    more: bool
    unreadable: NotRequired[list[Unreadable]]


class EventLine(EventShape):
    """An event among those of all jobs and hosts. subject: what it is about, in words."""

    id: int
    subject: str
    job: int | None
    host: str | None
    card: int | None


class EventPage(TypedDict):
    """`GET /events`, newest first; with `after`, oldest first."""

    events: list[EventLine]
    more: bool
    unreadable: NotRequired[list[Unreadable]]


class JobFull(Job):
    """`GET /jobs/{id}`."""

    spec: dict[str, Any]
    warnings: list[str]  # what the job file says that trains, and hardly does what its writer wants
    steps: list[StepShape]  # what follows its training
    data: PlanData | None  # None where nobody counted
    attempts_detail: list[Attempt]
    events: list[EventShape]
    unreadable: NotRequired[list[Unreadable]]


class JobPage(TypedDict):
    jobs: list[Job]
    more: bool
    total: int
    unreadable: NotRequired[list[Unreadable]]


class GroupShape(TypedDict):
    """A sweep that was submitted. values: of each job, by dotted key of the job file."""

    id: int
    name: str
    jobs: list[int]
    values: list[dict[str, Any]]


class GroupMember(TypedDict):
    """A job of a sweep. values: of the keys that differ, by dotted key of the job file."""

    job: Job
    values: dict[str, Any]


class GroupTable(TypedDict):
    """`GET /groups/{id}`: the jobs of a sweep, best first. keys: of the job file, whose values differ between them."""

    id: int
    name: str  # empty where the jobs have names of their own
    keys: list[str]
    members: list[GroupMember]
    unreadable: NotRequired[list[Unreadable]]


class LogPage(TypedDict):
    """bytes: of the attempt's whole log so far."""

    attempt: int
    offset: int
    text: str
    next_offset: int
    bytes: int
    ended: bool
