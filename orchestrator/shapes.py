"""The shapes of the API's JSON answers, for type checkers. Times are Unix seconds, memory is bytes."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict  # pydantic reads these, and before Python 3.12 it needs this one


class ReasonShape(TypedDict):
    code: str
    text: str
    figures: dict[str, Any]


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
    cards: list[str]
    rung: str | None
    projected_bytes: int | None
    measured_bytes: int | None
    cancel_requested: bool
    start: StartShape | None
    project: str
    group: int | None  # the first job of the sweep that it is of
    after: list[AfterShape]


class GoesOn(TypedDict):
    """What a requeued job goes on from. step: 0 where it begins anew, None where only a host that is away can tell."""

    job: int | None
    step: int | None
    text: str
    changes: list[str]


class Requeued(Job):
    """`POST /jobs/{id}/requeue`: the new job."""

    goes_on: GoesOn


class RungShape(TypedDict):
    every_n: int
    micro_batch: int
    accumulation: int
    offload: bool
    label: str


class ProjectionShape(TypedDict):
    parts: dict[str, int]
    phase: str
    phases: dict[
        str, int
    ]  # allocated bytes at the highest moment of each; empty of one that an older version made
    intervals: dict[str, list[int]]  # "allocated", "reserved", "device": lowest and highest; likewise
    allocated_bytes: int
    reserved_bytes: int
    device_bytes: int
    upper_bytes: int
    step_s: float | None


class MeasuredShape(TypedDict):
    allocated_bytes: int | None
    reserved_bytes: int | None
    device_bytes: int | None
    step_s: float | None
    tokens_per_s: float | None


class GpuName(TypedDict):
    id: int
    uuid: str
    name: str
    host: str


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
    last_loss: float | None
    skipped: int  # steps whose update was left out
    eval_loss: float | None
    opened_at: float
    started_at: float | None
    ended_at: float | None
    last_checkpoint: str | None
    resumed: dict[str, Any] | None  # {ts, step, job_id}; step: None where it began at 0
    checkpoints: list[dict[str, Any]]  # {step, bytes, ts, whole} on its host as it ran, newest first
    result: str | None


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


class JobFull(Job):
    """`GET /jobs/{id}`."""

    spec: dict[str, Any]
    warnings: list[str]  # what the job file says that trains, and hardly does what its writer wants
    data: PlanData | None  # None where nobody counted
    attempts_detail: list[Attempt]
    events: list[EventShape]


class JobPage(TypedDict):
    jobs: list[Job]
    more: bool
    total: int


class MetricPoint(TypedDict):
    """What a job told of one step. A line of training has a loss, an evaluation has an eval_loss, some have both."""

    step: int
    total_steps: int | None
    attempt: int
    ts: float
    loss: float | None
    eval_loss: float | None
    not_finite: dict[
        str, str
    ]  # "nan", "inf" or "-inf" of loss and eval_loss, where it is null for that reason
    learning_rate: float | None
    tokens: int | None  # trained so far in this attempt
    tokens_per_s: float | None
    step_s: float | None
    device_bytes: int | None  # peak so far


class Metrics(TypedDict):
    """`GET /jobs/{id}/metrics`. points: by step, over all attempts; steps that were trained again stand once, as
    they were trained last. total: how many there were before every and last cut them.
    """

    job: int
    name: str
    state: str
    points: list[MetricPoint]
    total: int


class ResultFile(TypedDict):
    name: str  # below the folder
    size: int
    sha256: str


class Result(TypedDict):
    """`GET /jobs/{id}/result`. bytes: of all files; manifest: its text as it stands in the folder."""

    job: int
    name: str
    attempt: int
    host: str
    folder: str
    kind: str  # adapter, model
    bytes: int
    files: list[ResultFile]
    manifest: str
    manifest_sha256: str


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


class Submitted(TypedDict):
    """`POST /jobs`. replaced: what was laid over a file took out of it; warnings: what is worth knowing of the jobs."""

    jobs: list[Job]
    groups: list[GroupShape]
    replaced: list[str]
    warnings: list[str]


class Checked(TypedDict):
    """`POST /jobs?dry_run=true`: the valid job files, written out."""

    jobs: list[Job]
    valid: list[dict[str, Any]]
    replaced: list[str]


class Pending(TypedDict):
    """`POST /plan` while its memory profile is being traced. text: what it waits for."""

    pending: str
    text: str


class FaultShape(TypedDict):
    """One thing wrong with what was given. path: where, dotted; fix: what would be right."""

    path: str
    given: str
    problem: str
    fix: str


class ErrorBody(TypedDict):
    """kind: usage, spec, not_found, conflict, unauthorized, unavailable or internal."""

    kind: str
    message: str
    faults: list[FaultShape]


class ErrorShape(TypedDict):
    """Every refusal."""

    error: ErrorBody


class ProjectShape(TypedDict):
    """A project with terms of its own, or with jobs. guarantee: GPUs, None: only its share; gpus: it holds now."""

    name: str
    guarantee: int | None
    weight: float
    borrows: bool
    own_terms: bool
    queued: int
    gpus: int


class ProjectPage(TypedDict):
    """`GET /projects`. gpus: that the fleet has; warnings: what the terms promise and the fleet can't keep."""

    projects: list[ProjectShape]
    gpus: int
    warnings: list[str]


class HostVerdict(TypedDict):
    host: str
    verdict: str
    code: str


class Why(TypedDict):
    job: Job
    hosts: list[HostVerdict]
    advice: list[str]


class Tried(TypedDict):
    rung: RungShape
    parts: dict[str, int]
    phase: str
    device_bytes: int
    upper_bytes: int
    step_s: float
    fits: bool
    excluded: bool  # it ran out of memory before
    relative_time: float | None


class PlanCard(TypedDict):
    """One card type. Those of the catalogue that the fleet has not have a count of 0."""

    card: str
    short: str  # as --cards takes it; empty outside the catalogue
    kind: str
    memory_bytes: int
    count: int
    free: int
    fits: bool
    rung: RungShape | None
    projection: ProjectionShape | None
    lower_bytes: int | None  # what the peak stays above, as surely as it stays under upper_bytes
    basis: str  # where the interval comes from: the group of measured attempts, or the prior
    saves_bytes: int | None  # what checkpointing every layer takes off the peak of no checkpointing
    slowdown: float | None  # 0.25: a step takes a quarter longer than without checkpointing
    step_s: float | None  # a mean step; projection.step_s is the same with nothing measured in it
    speed: float  # measured over projected step time that is in step_s
    tokens_per_s: float | None  # of the data, over all GPUs
    hours: float | None  # of the whole job; None where nobody counted the data
    price: float | None  # of an hour of one GPU
    cost: float | None  # price x GPUs x hours
    notes: list[str]  # what a reader of the projection must know
    reason: str | None
    pick: bool
    tried: list[Tried]


class PlanData(TypedDict):
    """Lengths of the job's sequences in tokens."""

    rows: int
    mean: float
    p50: int
    p90: int
    p99: int
    longest: int
    longest_row: int  # before it is cut; 0: not known
    truncated: int
    dropped: int
    left_out: str  # the two above in words, empty where there are none
    warnings: list[str]
    sampled: bool
    padding: float  # 0 to 1: share of each batch that is padding, at the micro-batch of the pick
    histogram: list[list[int]]  # pairs of longest length and count, shortest first


class PlanShape(TypedDict):
    """`POST /plan`."""

    job: str
    gpus: int
    policy: str
    confidence: float
    sequence_length: int
    length: int  # of the longest batch that can occur: what the peaks are projected for
    global_batch: int
    steps: int | None
    cards: list[PlanCard]
    data: PlanData | None
    advice: list[str]
    reason: str | None
    replaced: list[str]  # what flags took out of the job file, a sentence for each key


class AccuracyProjected(TypedDict):
    allocated_bytes: int | None
    reserved_bytes: int | None
    device_bytes: int | None
    upper_bytes: int | None
    step_s: float | None


class AccuracyMeasured(TypedDict):
    allocated_bytes: int | None
    reserved_bytes: int | None
    device_bytes: int | None
    step_s: float | None


class AccuracyRow(TypedDict):
    """One ended attempt. error: measured / projected - 1 of device bytes, at least that where it ran out of memory."""

    job: int
    name: str
    attempt: int
    ts: float
    family: str
    method: str
    quantisation: str
    card: str
    card_bytes: int | None
    rung: str
    outcome: str
    phase: str | None
    sequence_length: int | None
    confidence: float | None
    margin_group: str | None
    projected: AccuracyProjected
    measured: AccuracyMeasured
    error: float | None
    not_comparable: str | None  # why there is no error: no_peak, roomy_card
    covered: bool | None


class AccuracyFigure(TypedDict):
    """One of allocated, reserved, device. Errors are measured / projected - 1; median_error of their sizes."""

    figure: str
    count: int
    median_error: float | None
    bias: float | None
    worst: float | None


class AccuracyGroup(TypedDict):
    """Attempts of one family, method, quantisation and card. low, high: the interval that the next one gets."""

    family: str
    method: str
    quantisation: str
    card: str
    count: int
    ran_out: int
    covered: int
    judged: int
    median_error: float | None
    worst: float | None
    low: float | None
    high: float | None
    margin_group: str
    confidence: float
    speed: float


class Coverage(TypedDict):
    """Attempts whose device bytes stayed under the upper bound. asked: the confidence that they asked for."""

    covered: int
    of: int
    share: float | None
    asked: float | None


class Accuracy(TypedDict):
    """`GET /accuracy`. attempts: oldest first; worst: the same, the worst miss first.

    left_out: how many attempts no figure is of, by why: no_peak and roomy_card of those measured, unmeasured: ended
    before anything was, older: beyond the limit.
    """

    attempts: list[AccuracyRow]
    counted: int
    left_out: dict[str, int]
    ran_out: int
    coverage: Coverage
    figures: list[AccuracyFigure]
    groups: list[AccuracyGroup]
    worst: list[AccuracyRow]


class LogPage(TypedDict):
    attempt: int
    offset: int
    text: str
    next_offset: int
    ended: bool


class Host(TypedDict):
    """state: online, faulty, away, stopped, draining or drained; drained: it is to take no work, in any state."""

    id: int
    name: str
    state: str
    drained: bool
    labels: dict[str, str]
    gpus: int
    free: int  # that a job could start on now
    last_seen: float | None
    stack: dict[str, str]
    version: str
    ray_ready: bool
    fault: str | None  # why no trainer can start there
    tried_again_at: float | None


class Gpu(TypedDict):
    """host_state: of its host; of one that is away or stopped the sample is from before."""

    id: int
    uuid: str
    host: str
    host_state: str
    index: int
    kind: str
    name: str
    memory_bytes: int
    fault: str | None
    job: int | None  # the first of jobs
    jobs: list[int]  # several where they share it
    attempt: int | None
    sample: dict[str, Any] | None


class Health(TypedDict):
    status: str
    version: str
    pid: int
    ray: str
    exposed: bool  # whether plain HTTP listens beyond the server's machine
    hosts: int  # that ever joined
    hosts_online: int
