"""The messages between server, host and trainer. Times are Unix seconds, memory is bytes, power is watts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from pydantic import Field

from jobs.identity import Aside, AttemptKey, JobKey, Owner
from jobs.jobfile.resume_compatibility import weights_digest
from jobs.jobfile.spec import JobSpec
from jobs.memory.project import Rung
from jobs.message_base import Message
from jobs.messages.send_result import SendOrder
from jobs.messages.taken_result import TakenResult
from jobs.state import Outcome


class GpuInfo(Message):
    """A card as its host sees it. uuid is NVML's, or `cpu-<host>-<index>` for a CPU card."""

    uuid: str
    index: int
    kind: Literal["cuda", "cpu"]
    name: str  # as NVML reports it, or "cpu"
    memory_bytes: int
    fault: str | None = None  # why it can't be used now, in words
    expandable: bool = True  # whether segments of torch's CUDA allocator can expand there, and are to


class HostInfo(Message):
    """What a host says of itself when it joins."""

    name: str
    machine_id: str  # the same for server and host where they share a machine
    labels: dict[str, str] = Field(default_factory=dict)
    gpus: list[GpuInfo]
    stack: dict[str, str]  # library versions that a memory profile depends on
    model_types: list[str]  # what the installed transformers knows
    home: str = ""  # where the agent keeps its files; attempts' folders are under it
    output_root: str
    version: str
    steps: bool = False  # it runs what follows a training (`then`); False: of an older version
    warm: int = Field(ge=0)  # rank actors to keep with their imports done
    named: bool = False  # its files bear uuids, and are compared by them; False: of an older version


class GpuSample(Message):
    """One reading of one card. None where the card can't tell."""

    uuid: str
    ts: float
    memory_used_bytes: int | None = None
    utilization: float | None = None  # 0 to 1: share of time with a kernel running (CPU: share of all cores)
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: float | None = None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    energy_j: float | None = None  # since the driver started: store differences
    throttle: int | None = None  # NVML's bit mask of reasons
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    # Errors of the driver since the reading before (NVML's critical XID events). None: not read, as by today's agent.
    xids: list[int] | None = None
    process_memory: dict[int, int] | None = None  # pid -> bytes
    fault: str | None = None


class Progress(Message):
    """One line of progress.jsonl. step counts optimizer steps."""

    ts: float
    step: int
    total_steps: int
    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None  # before clipping, of the last step
    tokens: int = 0  # trained so far in this attempt
    tokens_per_s: float | None = None
    step_s: float | None = None  # mean time of the steps since the last line
    allocated_bytes: int | None = None  # peak so far: torch's on CUDA
    reserved_bytes: int | None = None
    device_bytes: int | None = None  # peak so far of what the card holds for this process
    loss_text: str | None = (
        None  # "nan", "inf" or "-inf", where the loss is no finite number: JSON has none for those
    )
    expandable: bool | None = None  # as in Ended
    skipped: int = 0  # steps of this attempt so far whose update was left out (training.on_nan: skip)
    note: str | None = None  # for the job's events, in words
    tracker: str | None = None  # a tracker that training goes on without, and why, for the job's events


class Evaluated(Message):
    """One line of evaluations.jsonl: the loss on the rows that are held out."""

    ts: float
    step: int
    loss: float | None = None
    loss_text: str | None = None  # as in Progress


class Resumed(Message):
    """resume.json: what the attempt goes on from, once that is on its host."""

    ts: float
    step: int | None = None  # of the checkpoint; None: it begins at step 0
    job_id: int | None = None  # whose checkpoint it was; None: this job's own
    job_uuid: str = ""  # of that job; empty: of a checkpoint that names none


class Checkpoint(Message):
    """A checkpoint on a host."""

    step: int
    bytes: int
    ts: float  # when its checksums were last compared with its files: as it was made, or as an attempt began
    whole: bool = True  # whether all its files are there with their sizes


class Started(Message):
    """started.json: which process runs the attempt."""

    ts: float
    pid: int
    create_time: float  # psutil's, so that a reused pid is never mistaken
    baseline_bytes: int = 0  # resident before the job's first allocation (CPU cards)


class Ended(Message):
    """outcome.json: how the attempt ended, with what was measured."""

    ts: float
    outcome: Outcome
    message: str = ""
    steps: int = 0
    total_steps: int | None = None  # of the whole job; None: it ended before that was known
    last_checkpoint: str | None = None
    checkpoint_bytes: int | None = None  # of the last checkpoint
    result: str | None = None  # folder of the adapter or model
    train_s: float | None = None
    step_s: float | None = None  # median over the steps after the first
    tokens_per_s: float | None = None
    first_loss: float | None = None
    last_loss: float | None = None  # finite
    skipped: int = 0  # steps whose update was left out
    eval_loss: float | None = None  # of the last evaluation
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    device_bytes: int | None = None
    expandable: bool | None = None  # whether torch's CUDA allocator had segments that expand; None: no CUDA
    rank: int | None = None  # of an attempt over several hosts: the rank that this is about
    host: str | None = None  # of a fault of a host: which, where that is not plain from who reports it
    echo: bool = False  # not the cause: a rank on another host is gone, or the server ended this one
    host_memory: bool = False  # of one that ran out: it was no tensor's memory, but that of Python's objects
    made: dict[str, Any] | None = None  # what a step found, by name; None: it trained
    bad_input: bool = (
        False  # the job file, data, tokenizer or model are at fault: another try would end the same
    )


class Kept(Message):
    """A host that has checkpoints of a job, as far as the server knows."""

    host: str
    home: str  # folder there: workers.attempt_folder.yard_root
    step: int | None = None  # of the newest; None: not known
    job_id: int | None = None  # whose they are; None: this job's own
    away: bool = False  # it does not answer now


class Assignment(Message):
    """What a rank actor is given: everything it needs, nothing it must ask for.

    Ranks are numbered over all hosts; within its attempt folder a host numbers its own from 0 (local_rank).
    """

    attempt_id: int
    job_id: int
    number: int  # of the attempt within its job: the fencing token
    uuid: str = ""  # of the attempt; empty: of an older server
    epoch: int = 0  # of the database, when this was handed over
    owner: Owner | None = None  # the job, as its files name it
    continues: int | None = None  # another job, whose checkpoints it may go on from
    before: Owner | None = None  # that job; its digest is this job's
    spec: JobSpec
    rung: Rung
    upper_bytes: int = 0  # what the projection stays under on the card; 0: not known
    shared: bool = False  # others may be on its cards: it is held to upper_bytes
    gpus: list[GpuInfo]  # one a rank, in rank order; none of a step
    taken: TakenResult | None = None  # what a step works on; None: the attempt trains
    host: str  # of this rank
    hosts: list[str] = Field(default_factory=list)  # one a rank, together where equal; empty: all on `host`
    rank: int = 0
    world_size: int = 1
    master_addr: str = "127.0.0.1"  # where the ranks meet: on the host of rank 0
    master_port: int = 0
    address: str = ""  # of this host, as the others reach it; empty: not known
    trusted_models: list[str] = Field(default_factory=list)  # trust_remote_code is honoured for these alone
    kept: list[Kept] = Field(default_factory=list)  # other hosts with checkpoints of the job, newest first
    result_bytes: int = 0  # what its result takes on disk, as projected; 0: not known
    checkpoint_bytes: int = 0  # what one checkpoint takes; 0: not known

    @property
    def mine(self) -> Owner:
        """The job, as its files name it."""
        return self.owner or Owner(job_id=self.job_id, digest=weights_digest(self.spec))

    @property
    def theirs(self) -> Owner | None:
        """The job whose checkpoints it may go on from."""
        if self.continues is None:
            return None
        return self.before or Owner(job_id=self.continues, digest=self.mine.digest)

    @property
    def key(self) -> AttemptKey:
        return AttemptKey.of(self)

    @property
    def ranks_here(self) -> list[int]:
        """The ranks on this host."""
        return [rank for rank in range(self.world_size) if not self.hosts or self.hosts[rank] == self.host]

    @property
    def local_rank(self) -> int:
        """This rank's place among those on this host."""
        return self.ranks_here.index(self.rank)

    @property
    def card(self) -> GpuInfo:
        """This rank's."""
        return self.gpus[self.rank]

    @property
    def cards_here(self) -> list[GpuInfo]:
        """Those of the ranks on this host, in their order."""
        return [self.gpus[rank] for rank in self.ranks_here if rank < len(self.gpus)]

    @property
    def spans(self) -> bool:
        """Whether there are ranks on other hosts."""
        return len(set(self.hosts)) > 1

    @property
    def at_lead(self) -> bool:
        """Whether this is the host of rank 0, which writes checkpoints and the result."""
        return not self.hosts or self.hosts[0] == self.host


class TraceRequest(Message):
    """What the server needs from this host of one job: a memory profile, the lengths of its data, or both."""

    key: str = ""  # of the profile; empty: not wanted
    spec: JobSpec
    trusted_models: list[str] = Field(default_factory=list)
    data_key: str = ""  # of the lengths; empty: not wanted

    @property
    def keys(self) -> tuple[str, ...]:
        """What is wanted."""
        return tuple(key for key in (self.key, self.data_key) if key)

    def only(self, keys: Collection[str]) -> TraceRequest:
        """The same, with what is not among these keys left out."""
        kept = {name: key if (key := getattr(self, name)) in keys else "" for name in ("key", "data_key")}
        return self.model_copy(update=kept)

    def failed(self, why: str) -> TraceResult:
        """The answer where nothing came of it."""
        return TraceResult(
            key=self.key,
            error=why if self.key else None,
            data_key=self.data_key,
            data_error=why if self.data_key else None,
        )


class TraceResult(Message):
    """A profile (jobs/memory/profile.py as a mapping) and lengths (jobs/memory/sequence_lengths.py), or why there
    is none.
    """

    key: str = ""
    profile: dict[str, Any] | None = None
    error: str | None = None
    bad_input: bool = False  # the job file is at fault, not the host: the job fails rather than waits
    data_key: str = ""
    lengths: dict[str, Any] | None = None
    data_error: str | None = (
        None  # the job is then planned by its training.sequence_length, unless it can't train
    )
    data_bad_input: bool = False  # data, tokenizer or model are at fault, not the host: the job fails
    data_missing: bool = False  # what is at fault is not there; another host may have it

    @property
    def keys(self) -> tuple[str, ...]:
        """What was wanted."""
        return tuple(key for key in (self.key, self.data_key) if key)


class AttemptReport(Message):
    """News of one attempt. log continues at log_offset; what the server has already is skipped there."""

    attempt_id: int
    number: int
    uuid: str = ""  # as its folder names it
    started: Started | None = None
    resumed: Resumed | None = None
    checkpoints: list[Checkpoint] | None = None  # of its job on this host, newest first; None: not looked at
    progress: list[Progress] = Field(default_factory=list)
    evaluations: list[Evaluated] = Field(default_factory=list)
    log: str = ""
    log_offset: int = 0  # bytes of UTF-8 before `log`
    ended: Ended | None = None


class Disk(Message):
    """Room on a disk of a host."""

    holds: str  # "checkpoints", "results", or "checkpoints and results"
    path: str
    free_bytes: int
    total_bytes: int


class HostReport(Message):
    """What a host sends once a second. Sending the same report twice changes nothing."""

    epoch: int = 0  # of the database that it joined; 0: an older agent
    host: str = ""  # its name; empty: an older agent
    boot: str  # changes when the agent restarts; empty from when it is told to end: it takes no more work
    sent: float
    gpus: list[GpuInfo]
    samples: list[GpuSample] = Field(default_factory=list)
    attempts: list[AttemptReport] = Field(default_factory=list)
    traces: list[TraceResult] = Field(default_factory=list)
    ray_ready: bool = False
    running: list[int] = Field(default_factory=list)  # attempt ids with a live process here
    here: list[AttemptKey] = Field(default_factory=list)  # every attempt with a folder here
    kept: list[int] = Field(default_factory=list)  # jobs with checkpoints here; said once in a while
    disks: list[Disk] = Field(default_factory=list)  # empty until they were looked at
    kept_keys: list[JobKey] = Field(default_factory=list)  # the same, as their folders name them
    aside: list[Aside] | None = None  # all that was set aside here; None: not looked at


class StopOrder(Message):
    """End this attempt: gently (checkpoint first) until grace_s is over, then by force."""

    attempt_id: int
    uuid: str = ""  # of the attempt; empty: of an older server
    reason: Literal["cancelled", "timeout", "preempted", "stale", "host_stopped"]
    grace_s: float = 20.0


class AttemptOffsets(Message):
    """An open attempt of this host, and how much of its news the server has."""

    attempt_id: int
    job_id: int
    number: int
    uuid: str = ""  # of the attempt; empty: of an older server
    log_offset: int = 0
    step: int = 0
    evaluated: int = -1  # step of the last evaluation
    lead: bool = True  # False: rank 0 is elsewhere, and of this host only the end of its ranks is wanted

    @property
    def key(self) -> AttemptKey:
        return AttemptKey.of(self)


class HostOrders(Message):
    """The server's answer to a report."""

    stops: list[StopOrder] = Field(default_factory=list)
    traces: list[TraceRequest] = Field(default_factory=list)
    attempts: list[AttemptOffsets] = Field(default_factory=list)  # all open ones on this host
    ray_address: str | None = None  # where the raylet is to join; None while there is no head
    forget: list[int] = Field(default_factory=list)  # ended attempts whose news is all stored
    sends: list[SendOrder] = Field(default_factory=list)
    epoch: int = 0  # of the database that this is the word of
    strange: list[AttemptKey] = Field(default_factory=list)  # attempts that the database does not know
    strange_jobs: list[JobKey] = Field(default_factory=list)  # the same of jobs
    drop: list[int] = Field(default_factory=list)  # for an older agent: by id alone
    drops: list[Owner] = Field(default_factory=list)  # jobs whose checkpoints nobody needs any more


class Joined(Message):
    """The server's answer to a host that joins."""

    host_id: int
    # uuid of the server's database, within which ids are unique; a part of paths on the host
    yard: str = Field(default="", pattern="^[0-9a-f]*$")
    epoch: int = 0  # of that database: another once it went back to a backup
    ray_token: str
    ray_address: str | None = None
