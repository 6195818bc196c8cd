"""Hosts, cards, projects, the server."""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict  # pydantic reads these, and before Python 3.12 it needs this one

from orchestrator.schemas.common import Unreadable


class ProjectShape(TypedDict):
    """A project with terms of its own, or with jobs. guarantee: GPUs, None: only its share; gpus: it holds now."""

    name: str
    guarantee: int | None
    weight: float
    borrows: bool
    own_terms: bool
    queued: int
    gpus: int


class SecretShape(TypedDict):
    """A secret of a project: its name, and who set it when."""

    name: str
    set_at: float
    set_by: str


class SecretPage(TypedDict):
    """`GET /projects/NAME/secrets`."""

    secrets: list[SecretShape]


class TargetShape(TypedDict):
    """Who is told. host: of its URL; project: None: all, and hosts; waiting: notices that it did not take yet."""

    id: int
    kind: str
    host: str
    project: str | None
    on: list[str]
    waiting: int


class TargetPage(TypedDict):
    """`GET /notify`."""

    targets: list[TargetShape]


class TargetAdded(TypedDict):
    """`POST /notify`. key: what signs the notices; it is not told again."""

    id: int
    key: str


class ProjectPage(TypedDict):
    """`GET /projects`. gpus: that the fleet has; warnings: what the terms promise and the fleet can't keep."""

    projects: list[ProjectShape]
    gpus: int
    warnings: list[str]
    unreadable: NotRequired[list[Unreadable]]


class DiskShape(TypedDict):
    """A disk of a host, as it said last. holds: checkpoints, results, or both."""

    holds: str
    path: str
    free_bytes: int
    total_bytes: int


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
    disks: list[DiskShape]  # empty where it has not said
    fault: str | None  # why no trainer can start there
    aside: list[str]  # what was set aside there, for the database knows another by its id; with the folder
    tried_again_at: float | None


class Gpu(TypedDict):
    """host_state: of its host; of one that is away or stopped the sample is from before."""

    id: int
    uuid: str
    host: str
    host_state: str
    host_seen: float | None  # when it was heard of last
    index: int
    kind: str
    name: str
    memory_bytes: int
    fault: str | None
    job: int | None  # the first of jobs
    jobs: list[int]  # several where they share it
    attempt: int | None
    sample: dict[str, Any] | None


class GpuFull(Gpu):
    """`GET /gpus/{card}`. present: whether its host has it now."""

    present: bool
    unreadable: NotRequired[list[Unreadable]]


class GpuJob(TypedDict):
    """An attempt that held a card. promised_bytes: of the card's memory; projected_bytes, measured_bytes: the peak of
    the attempt's process that takes the most; released_at: null while it holds the card; state: of its job.
    """

    job: int
    name: str
    user: str
    project: str
    state: str
    attempt: int
    number: int  # within its job
    rank: int
    exclusive: bool
    opened_at: float
    started_at: float | None
    released_at: float | None
    outcome: str | None
    message: str | None
    steps: int | None
    promised_bytes: int
    projected_bytes: int | None
    measured_bytes: int | None


class GpuJobPage(TypedDict):
    """`GET /gpus/{card}/jobs`, newest first."""

    jobs: list[GpuJob]
    more: bool
    unreadable: NotRequired[list[Unreadable]]


class Leader(TypedDict):
    """Of the servers of one database the one that decides; others stand by. leads: whether it is the one that answers;
    url: None: nobody leads just now; since: Unix seconds; epoch: how many led before.
    """

    leads: bool
    url: str | None
    host: str | None
    since: float | None
    epoch: int


class HostList(TypedDict):
    """`GET /hosts`. leader: None where only one server is possible."""

    hosts: list[Host]
    leader: Leader | None
    unreadable: NotRequired[list[Unreadable]]


class GpuList(TypedDict):
    """`GET /gpus`."""

    gpus: list[Gpu]
    unreadable: NotRequired[list[Unreadable]]


class Health(TypedDict):
    """`GET /health`. status: ok, or degraded with the reason in what follows; the answer is 200 in both cases.

    ready: whether jobs are taken and can start. database, scheduler, dispatcher: "ok", or what is wrong with each; the
    dispatcher may be "starting". scheduler_age_s: since the last good round; dispatcher_age_s: since its last answer,
    null while there is none to answer.
    """

    status: str
    ready: bool
    database: str
    scheduler: str
    scheduler_age_s: float
    dispatcher: str
    dispatcher_age_s: float | None
    version: str
    pid: int
    ray: str  # ready, starting or down
    exposed: bool  # whether plain HTTP listens beyond the server's machine
    hosts: int  # that ever joined
    hosts_online: int
    leader: Leader | None
    set_aside: int  # records that this server can't handle (`GET /quarantine`)


class QuarantineEntry(TypedDict):
    """A record that raises. kind: job, attempt, host, project or step; key: its id, or the step; doing: what fails."""

    kind: str
    key: int | str
    doing: str
    since: float
    text: str
    traceback: str
    retry_at: float


class Quarantined(TypedDict):
    """`GET /quarantine`."""

    entries: list[QuarantineEntry]
