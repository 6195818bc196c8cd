"""Rows of the store -> Fleet, the snapshot that a plan is made from; remembers what need not be parsed again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.cards import Card
from jobs.errors import Fault, ProfileError
from jobs.ladder import Choice, NoFit, choose
from jobs.profile import MemoryProfile, trace_key
from jobs.spec import JobSpec
from orchestrator.config import Settings
from orchestrator.fleet import Fleet, Gpu, Host, NoProfile, Waiting
from orchestrator.store.rows import FleetRows, GpuRow, HostRow, JobRow, ProfileRow

RETRY_TRACE_S = 300.0


class Memo:
    """What follows from immutable rows, computed once: specs, profile keys, profiles, choices. Holds no truth."""

    def __init__(self) -> None:
        self._specs: dict[int, JobSpec] = {}
        self._keys: dict[tuple[int, str], str] = {}
        self._profiles: dict[str, MemoryProfile] = {}
        self._choices: dict[tuple[int, int, Card], Choice | NoFit] = {}

    def spec(self, job: JobRow) -> JobSpec:
        if job.id not in self._specs:
            self._specs[job.id] = JobSpec.model_validate(job.spec)
        return self._specs[job.id]

    def key(self, job_id: int, spec: JobSpec, host: Host) -> str:
        known = (job_id, host.stack_id)
        if known not in self._keys:
            self._keys[known] = trace_key(spec, dict(host.stack), model_config(spec))
        return self._keys[known]

    def profile(self, row: ProfileRow) -> MemoryProfile:
        if row.key not in self._profiles:
            assert row.profile is not None
            self._profiles[row.key] = MemoryProfile.from_dict(row.profile)
        return self._profiles[row.key]

    def choose(self, job: Waiting, profile: MemoryProfile, card: Card) -> Choice | NoFit:
        """choose() of the ladder, once per job, profile and card. Profiles are kept here: their ids last."""
        known = (job.job_id, id(profile), card)
        if known not in self._choices:
            self._choices[known] = choose(profile, job.spec, card)
        return self._choices[known]

    def forget_all_but(self, job_ids: set[int]) -> None:
        """Drop what belongs to jobs that left the queue."""
        self._specs = {job: spec for job, spec in self._specs.items() if job in job_ids}
        self._keys = {known: key for known, key in self._keys.items() if known[0] in job_ids}
        self._choices = {known: choice for known, choice in self._choices.items() if known[0] in job_ids}


def model_config(spec: JobSpec) -> dict[str, Any] | None:
    """config.json of a local model folder, where this machine sees it: a changed folder is another architecture."""
    if spec.model.path is None:
        return None
    try:
        value = json.loads((Path(spec.model.path) / "config.json").read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def host_of(row: HostRow, gpus: Sequence[GpuRow], now: float, settings: Settings, alive_since: float) -> Host:
    """A host of the snapshot. alive_since: before it, nobody listened, so silence says nothing."""
    info = row.info
    return Host(
        id=row.id,
        name=row.name,
        gpus=tuple(
            Gpu(g.id, g.uuid, g.index, g.kind, g.name, g.memory_bytes, g.fault, g.job_id)
            for g in sorted(gpus, key=lambda g: g.index)
            if g.present
        ),
        labels=info.get("labels", {}),
        stack=info.get("stack", {}),
        online=now - max(row.last_seen, alive_since) < settings.away_after_s,
        drained=row.drained,
        ray_ready=row.ray_ready,
    )


def hosts_of(rows: FleetRows, now: float, settings: Settings, alive_since: float) -> tuple[Host, ...]:
    """All hosts of the snapshot, oldest first."""
    by_host: dict[int, list[GpuRow]] = {}
    for gpu in rows.gpus:
        by_host.setdefault(gpu.host_id, []).append(gpu)
    return tuple(
        host_of(row, by_host.get(row.id, []), now, settings, alive_since)
        for row in sorted(rows.hosts, key=lambda row: row.id)
    )


def waiting_of(
    job: JobRow, hosts: Sequence[Host], memo: Memo, shaky: frozenset[int] = frozenset()
) -> Waiting:
    """A queued job of the snapshot."""
    spec = memo.spec(job)
    keys = {host.stack_id: memo.key(job.id, spec, host) for host in hosts}
    return Waiting(job.id, spec, job.priority, job.submitted_at, keys, job.not_before or 0.0, shaky)


def profiles_of(
    rows: Mapping[str, ProfileRow], memo: Memo, now: float
) -> dict[str, MemoryProfile | NoProfile]:
    """Profiles by key. One that failed a while ago, or that no host works on, counts as never asked for."""
    known: dict[str, MemoryProfile | NoProfile] = {}
    for key, row in rows.items():
        if row.profile is not None:
            try:
                known[key] = memo.profile(row)
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


def fault_of(
    job: Waiting, hosts: Sequence[Host], rows: Mapping[str, ProfileRow], memo: Memo, now: float
) -> str | None:
    """What is wrong with the job file itself, as every host that is open says; None while one may still take it."""
    faults = []
    for host in hosts:
        row = rows.get(job.keys[host.stack_id])
        if not host.open:
            continue
        if row is not None and row.profile is not None:
            faults.append(_too_long(job.spec, row, memo))
        else:
            faults.append(row.error if row is not None and row.bad_input and not _stale(row, now) else None)
    return faults[0] if faults and all(faults) else None


def _too_long(spec: JobSpec, row: ProfileRow, memo: Memo) -> str | None:
    try:
        most = memo.profile(row).max_length
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
    hosts: tuple[Host, ...], queue: Sequence[Waiting], rows: Mapping[str, ProfileRow], memo: Memo, now: float
) -> Fleet:
    """The snapshot."""
    return Fleet(hosts, tuple(queue), profiles_of(rows, memo, now))
