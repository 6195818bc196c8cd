"""Rows of the store -> Fleet, the snapshot that a plan is made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jobs.cards import CardKind, price_of
from jobs.errors import Fault, ProfileError
from jobs.jobfile.spec import JobSpec
from jobs.memory.profile import MemoryProfile
from jobs.memory.rung import Rung
from jobs.recovery import RanOut
from jobs.state import Code, Outcome, Reason
from orchestrator.config import Settings
from orchestrator.control.outcomes import blamed
from orchestrator.control.snapshot.cache import SnapshotCache
from orchestrator.control.snapshot.progress import (
    blocked_of,
    checkpoint_bytes,
    held_of,
    home_of,
    projects_of,
    running_of,
    steps_done,
    total_steps,
    usage_of,
)
from orchestrator.scheduler.eta import steps_left
from orchestrator.scheduler.fleet import Fleet, Gpu, Host, NoProfile, PendingJob
from orchestrator.store.rows import AttemptRow, FleetRows, GpuRow, HostRow, JobRow, LinkRow, ProfileRow

RETRY_TRACE_S = 300.0
# A host on which no trainer could start rests for so long, twice as long each time in a row, half an hour at most.
FIRST_REST_S, LONGEST_REST_S = 5.0, 1800.0


def host_of(row: HostRow, gpus: Sequence[GpuRow], now: float, settings: Settings, online: bool) -> Host:
    """A host of the snapshot. online: whether it is there, as orchestrator.control.host_silence has it."""
    info = row.info
    return Host(
        id=row.id,
        name=row.name,
        gpus=tuple(
            Gpu(
                *(g.id, g.uuid, g.index, g.kind, g.name, g.memory_bytes, g.fault, g.job_id),
                price=price_of(settings.prices, g.name) if settings.prices else None,
                expandable=g.expandable,
            )
            for g in sorted(gpus, key=lambda g: g.index)
            if g.present
        ),
        labels=info.get("labels", {}),
        stack=info.get("stack", {}),
        online=online,
        left=row.left,
        drained=row.drained,
        ray_ready=row.ray_ready,
        fault=row.fault if now < rests_until(row) else None,
    )


def rests_until(row: HostRow) -> float:
    """Until when a host that can't start a trainer is given none; it may be well again without a word."""
    if row.fault is None or row.fault_at is None:
        return 0.0
    return row.fault_at + min(LONGEST_REST_S, FIRST_REST_S * 2.0 ** (row.fault_times - 1))


def hosts_of(
    rows: FleetRows, now: float, settings: Settings, online: Callable[[HostRow], bool]
) -> tuple[Host, ...]:
    """All hosts of the snapshot, oldest first. online: which of them are there."""
    by_host: dict[int, list[GpuRow]] = {}
    for gpu in rows.gpus:
        by_host.setdefault(gpu.host_id, []).append(gpu)
    return tuple(
        host_of(row, by_host.get(row.id, []), now, settings, online(row))
        for row in sorted(rows.hosts, key=lambda row: row.id)
    )


def stacks_of(hosts: Iterable[Host]) -> tuple[Host, ...]:
    """One host of each stack, the first: profile keys differ by nothing else."""
    found: dict[str, Host] = {}
    for host in hosts:
        found.setdefault(host.stack_id, host)
    return tuple(found.values())


def pending_job_of(
    job: JobRow,
    hosts: Sequence[Host],
    snapshot_cache: SnapshotCache,
    history: Sequence[AttemptRow] = (),
    links: Sequence[LinkRow] = (),
    attained_gpu_s: float = 0.0,
    before: Sequence[AttemptRow] = (),
) -> PendingJob:
    """A queued job of the snapshot.

    hosts: one of each stack will do (stacks_of); history: its attempts, oldest first; links: what it waits for;
    attained_gpu_s: what those attempts held; before: the attempts of the job whose checkpoints it goes on from.
    """
    made_from = (
        *(job.priority, job.submitted_at, job.not_before, job.project, job.user, job.queued_at),
        *(job.held_at, job.held_by, job.revision),
        *(tuple(history), tuple(before), tuple(links), attained_gpu_s, [host.stack_id for host in hosts]),
    )

    def make() -> PendingJob:
        return _pending_job_of(job, hosts, snapshot_cache, history, links, attained_gpu_s, before)

    return snapshot_cache.pending.base(job.id, made_from, make)


def _pending_job_of(
    job: JobRow,
    hosts: Sequence[Host],
    snapshot_cache: SnapshotCache,
    history: Sequence[AttemptRow],
    links: Sequence[LinkRow],
    attained_gpu_s: float,
    before: Sequence[AttemptRow],
) -> PendingJob:
    spec, kept = snapshot_cache.spec(job), [*before, *history]
    done = steps_done(kept)
    return PendingJob(
        job_id=job.id,
        spec=spec,
        priority=job.priority,
        submitted_at=job.submitted_at,
        keys={host.stack_id: snapshot_cache.key(job.id, spec, host) for host in hosts},
        not_before=job.not_before or 0.0,
        shaky=frozenset(
            host_id
            for place, past in enumerate(history, 1)
            if past.outcome in (Outcome.LOST, Outcome.NOT_STARTED, Outcome.HOST_FAULT)
            # A folder that took nothing may take something again: only the last that did counts.
            or (past.outcome is Outcome.STORAGE and place == len(history))
            for host_id in blamed(past)
        ),
        rests=_no_storage(history),
        **snapshot_cache.family(job.id, spec),
        ran_out=tuple(ran_out_of(past) for past in history if past.outcome is Outcome.OOM),
        project=job.project,
        user=job.user,
        waiting_since=job.queued_at,
        attained_gpu_s=attained_gpu_s,
        steps_done=done,
        steps_left=steps_left(total_steps(kept, spec), done),
        blocked=held_of(job) or blocked_of(links),
        across=spec.resources.across_hosts,
        home=home_of(kept),
        checkpoint_bytes=checkpoint_bytes(kept, spec),
        revision=job.revision,
    )


def _no_storage(history: Sequence[AttemptRow]) -> Reason | None:
    """What the host's folder said to the last attempt, where it was that which ended it."""
    if not history or history[-1].outcome is not Outcome.STORAGE:
        return None
    last = history[-1]
    return Reason(Code.STORAGE, last.message, {"host": last.host, "steps": last.steps})


def ran_out_of(attempt: AttemptRow) -> RanOut:
    """The rung and card of an attempt whose memory ran out. Of a shared card it had its share, no more."""
    gpu, projected = attempt.gpus[0], attempt.projection
    kind: CardKind = "cpu" if gpu.kind == "cpu" else "cuda"
    device = int(projected.get("device_bytes", 0))
    upper = int(projected.get("upper_bytes", device))
    shared = attempt.shared
    return RanOut(
        Rung(**attempt.rung), kind, gpu.name, upper if shared else gpu.memory_bytes, device, upper, shared
    )


def profiles_of(
    rows: Mapping[str, ProfileRow], snapshot_cache: SnapshotCache, now: float
) -> dict[str, MemoryProfile | NoProfile]:
    """Profiles by key. One that failed a while ago, or that no host works on, counts as never asked for."""
    known: dict[str, MemoryProfile | NoProfile] = {}
    for key, row in rows.items():
        if row.profile is not None:
            try:
                known[key] = snapshot_cache.profile(row)
            except ProfileError as error:  # of a host with another version of tuneyard
                known[key] = NoProfile(str(error))
        elif row.error is not None:
            if not _stale(row, now):
                known[key] = NoProfile(row.error)
        elif row.host_id is not None:
            known[key] = NoProfile()
    return known


def _stale(row: ProfileRow, now: float) -> bool:
    """An error that is old enough to try again."""
    return now - (row.ended_at or now) >= RETRY_TRACE_S


def family_told(job: PendingJob, profiles: Mapping[str, MemoryProfile | NoProfile]) -> dict[str, Any]:
    """Family and quantisation as a job's trace tells them, where it has one: a hub id alone says neither."""
    for key in job.keys.values():
        found = profiles.get(key)
        if isinstance(found, MemoryProfile) and found.model_type:
            return {"family": found.model_type, "quantisation": found.quantised or job.quantisation}
    return {"family": job.family, "quantisation": job.quantisation}


def fault_of(
    job: PendingJob,
    hosts: Sequence[Host],
    rows: Mapping[str, ProfileRow],
    snapshot_cache: SnapshotCache,
    now: float,
) -> str | None:
    """What is wrong with the job file itself, as every host that is open says; None while one may still take it."""
    faults = []
    for host in hosts:
        row = rows.get(job.keys[host.stack_id])
        if not host.open:
            continue
        if row is not None and row.profile is not None:
            faults.append(_too_long(job.spec, row, snapshot_cache))
        else:
            faults.append(row.error if row is not None and row.bad_input and not _stale(row, now) else None)
    return faults[0] if faults and all(faults) else None


def _too_long(spec: JobSpec, row: ProfileRow, snapshot_cache: SnapshotCache) -> str | None:
    try:
        most = snapshot_cache.profile(row).max_length
    except ProfileError:
        return None
    length = spec.training.sequence_length
    if most is None or length <= most:
        return None
    return str(length_fault(length, most))


def length_fault(length: int, most: int) -> Fault:
    """A sequence that the model has no positions for."""
    problem = f"is longer than the model's {most} positions (max_position_embeddings)"
    return Fault("training.sequence_length", str(length), problem, f"use at most {most}")


def fleet_of(
    hosts: tuple[Host, ...],
    queue: Sequence[PendingJob],
    profiles: Mapping[str, ProfileRow],
    snapshot_cache: SnapshotCache,
    now: float,
    rows: FleetRows | None = None,
    settings: Settings | None = None,
    figures: Sequence[Mapping[str, Any]] | None = None,
) -> Fleet:
    """The snapshot. rows, settings: where what runs counts, too; figures: what else is known of each queued job."""
    known = profiles_of(profiles, snapshot_cache, now)
    told = figures or [{}] * len(queue)
    shaped = tuple(
        snapshot_cache.pending.whole(job, {**more, **family_told(job, known)}, snapshot_cache.shape)
        for job, more in zip(queue, told, strict=True)
    )
    if rows is None or settings is None:
        return Fleet(hosts, shaped, known)
    specs = snapshot_cache.readable_specs(rows.running)
    return Fleet(
        hosts,
        shaped,
        known,
        running_of(rows, specs, settings.rules, now),
        projects_of(rows.projects),
        usage_of(rows.usage, settings.prices),
        cleared=rows.cleared,
    )
