"""Rows of the store -> Fleet, the snapshot that a plan is made from; remembers what need not be parsed again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs.calibration import Calibration, Group, Observation, family_of, quantisation_of
from jobs.cards import Card, price_of
from jobs.errors import Fault, ProfileError
from jobs.ladder import Choice, NoFit, choose
from jobs.profile import CardKind, MemoryProfile, trace_key
from jobs.projection import Margin, prior
from jobs.recovery import RanOut, spent
from jobs.rung import Rung
from jobs.spec import JobSpec
from jobs.state import Outcome
from orchestrator.config import Settings
from orchestrator.endings import blamed
from orchestrator.fleet import Fleet, Gpu, Host, NoProfile, Waiting
from orchestrator.kinds import Fits
from orchestrator.line import Line
from orchestrator.pace import (
    blocked_of,
    checkpoint_bytes,
    home_of,
    projects_of,
    running_of,
    steps_done,
    steps_left,
    usage_of,
)
from orchestrator.placement import Chooser, Placement
from orchestrator.steady import Steady
from orchestrator.store.rows import AttemptRow, FleetRows, GpuRow, HostRow, JobRow, LinkRow, ProfileRow

RETRY_TRACE_S = 300.0
MOST_CHOICES = 20_000  # kept; a queue has few shapes of jobs, so more are those of jobs long gone


@dataclass(frozen=True)
class Terms:
    """What the ladder is told beside profile, job and card: what was measured, and where this job ran out."""

    margin: Margin | None
    speed: float
    exclude: frozenset[Rung]
    ceiling_bytes: int | None
    length: int | None


def terms_of(job: Waiting, card: Card, stack: str, calibration: Calibration) -> Terms:
    """The terms for one job on one card of a host with this stack (Host.stack_id; empty: any)."""
    method, confidence = job.spec.method.kind, job.spec.memory.confidence
    group = Group(job.family, method, quantisation_of(method), card.name, stack)
    margin = calibration.margin(group, confidence)
    exclude, ceiling = spent(job.ran_out, card, (margin or prior(card.kind, confidence)).high)
    return Terms(margin, calibration.speed(group), exclude, ceiling, job.length)


def chooser(calibration: Calibration) -> Chooser:
    """The ladder's choose(), with what was measured so far."""

    def pick(job: Waiting, profile: MemoryProfile, card: Card, stack: str = "") -> Choice | NoFit:
        return choose(profile, job.spec, card, **vars(terms_of(job, card, stack, calibration)))

    return pick


def basis_of(job: Waiting, placement: Placement, calibration: Calibration) -> dict[str, Any]:
    """What the projection of a placement stood on: kept with the attempt, for its observation."""
    stack = placement.host.stack_id
    terms = terms_of(job, placement.gpus[0].card, stack, calibration)
    return {
        "family": job.family,
        "trace_key": job.keys[stack],
        "sequence_length": job.length or job.spec.training.sequence_length,
        "data_key": job.data_key,
        "confidence": job.spec.memory.confidence,
        "margin_group": terms.margin.group if terms.margin else "prior",
        "margin": [terms.margin.low, terms.margin.high] if terms.margin else None,
        "speed": terms.speed,
    }


class Memo:
    """What follows from immutable rows, computed once: specs, profile keys, profiles, choices. Holds no truth."""

    def __init__(self) -> None:
        self.calibration = Calibration()
        self.fits = Fits()
        self.line = Line()
        self._waiting, self._shaped = Steady(), Steady()
        self._observed: tuple[Observation, ...] = ()
        self._specs: dict[int, JobSpec] = {}
        self._families: dict[int, str] = {}
        self._shapes: dict[int, str] = {}
        self._keys: dict[tuple[int, str], str] = {}
        self._profiles: dict[str, MemoryProfile] = {}
        self._choices: dict[tuple[str, int, Card, Terms], Choice | NoFit] = {}

    def branch(self) -> Memo:
        """One for another thread, which knows what this one does: neither sees what the other learns from then on."""
        made = Memo()
        made.calibration = self.calibration
        made._shapes, made._choices = {**self._shapes}, {**self._choices}
        return made

    def calibrate(self, observations: Iterable[Observation]) -> None:
        """Take these observations in place of the ones before."""
        observed = tuple(observations)
        if observed != self._observed:
            self.calibration, self._observed = Calibration(observed), observed
            self._choices.clear()
            self.fits.forget()

    def spec(self, job: JobRow) -> JobSpec:
        if job.id not in self._specs:
            self._specs[job.id] = JobSpec.model_validate(job.spec)
        return self._specs[job.id]

    def family(self, job_id: int, spec: JobSpec) -> str:
        if job_id not in self._families:
            self._families[job_id] = family_of(spec, model_config(spec))
        return self._families[job_id]

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

    def choose(self, job: Waiting, profile: MemoryProfile, card: Card, stack: str = "") -> Choice | NoFit:
        """What chooser() says, once per shape of job, profile, card and terms. Profiles stay here: their ids last."""
        terms = terms_of(job, card, stack, self.calibration)
        # The pace changes with every job that ends, and no rung's rank with it.
        at_pace_one = replace(terms, speed=1.0)
        known = (self._shape(job), id(profile), card, at_pace_one)
        if known not in self._choices:
            if len(self._choices) >= MOST_CHOICES:
                self._choices.clear()
            self._choices[known] = choose(profile, job.spec, card, **vars(at_pace_one))
        found = self._choices[known]
        return replace(found, speed=terms.speed) if isinstance(found, Choice) else found

    def readable_specs(self, jobs: Iterable[JobRow]) -> dict[int, JobSpec]:
        """Specs by job id, without those that another version stored."""
        found = {}
        for job in jobs:
            with contextlib.suppress(ValidationError):
                found[job.id] = self.spec(job)
        return found

    def shape(self, job: Waiting) -> Hashable:
        """Equal for jobs that fit the same cards on the same rungs."""
        keys = tuple(sorted(job.keys.items()))
        return (
            self._shape(job),
            keys,
            job.family,
            job.ran_out,
            job.shaky,
            job.length,
            job.counted,
            job.apart,
        )

    def _shape(self, job: Waiting) -> str:
        """What of a job file a choice may depend on: jobs of a sweep share it."""
        if job.job_id not in self._shapes:
            beside: dict[str, Any] = dict.fromkeys(
                (
                    *("name", "data", "priority", "retries", "time_limit", "output"),
                    *("project", "after", "matrix", "sweep"),
                ),
                True,
            )
            beside["training"] = {"learning_rate", "seed", "epochs", "steps"}
            self._shapes[job.job_id] = job.spec.model_dump_json(exclude=beside)
        return self._shapes[job.job_id]

    def forget_all_but(self, job_ids: set[int]) -> None:
        """Drop what belongs to jobs that left the queue."""
        self._specs = {job: spec for job, spec in self._specs.items() if job in job_ids}
        self._families = {job: family for job, family in self._families.items() if job in job_ids}
        self._shapes = {job: shape for job, shape in self._shapes.items() if job in job_ids}
        self._keys = {known: key for known, key in self._keys.items() if known[0] in job_ids}
        self._waiting.forget_all_but(job_ids)
        self._shaped.forget_all_but(job_ids)

    def waiting(self, job_id: int, made_from: object, make: Callable[[], Waiting]) -> Waiting:
        """A queued job, the same one while what it is made from stays as it was."""
        return self._waiting.made(job_id, made_from, make)

    def shaped(self, job: Waiting, family: str) -> Waiting:
        """The job with the family that its trace tells, and its shape."""

        def make() -> Waiting:
            told = job if job.family == family else replace(job, family=family)
            return replace(told, shape=self.shape(told))

        return self._shaped.made(job.job_id, (job, family), make)


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
            Gpu(
                *(g.id, g.uuid, g.index, g.kind, g.name, g.memory_bytes, g.fault, g.job_id),
                price=price_of(settings.prices, g.name) if settings.prices else None,
            )
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


def stacks_of(hosts: Iterable[Host]) -> tuple[Host, ...]:
    """One host of each stack, the first: profile keys differ by nothing else."""
    found: dict[str, Host] = {}
    for host in hosts:
        found.setdefault(host.stack_id, host)
    return tuple(found.values())


def waiting_of(
    job: JobRow,
    hosts: Sequence[Host],
    memo: Memo,
    history: Sequence[AttemptRow] = (),
    links: Sequence[LinkRow] = (),
    attained_gpu_s: float = 0.0,
) -> Waiting:
    """A queued job of the snapshot.

    hosts: one of each stack will do (stacks_of); history: its attempts, oldest first; links: what it waits for;
    attained_gpu_s: what those attempts held.
    """
    made_from = (
        *(job.priority, job.submitted_at, job.not_before, job.project, job.user, job.queued_at),
        *(tuple(history), tuple(links), attained_gpu_s, [host.stack_id for host in hosts]),
    )

    def make() -> Waiting:
        return _waiting_of(job, hosts, memo, history, links, attained_gpu_s)

    return memo.waiting(job.id, made_from, make)


def _waiting_of(
    job: JobRow,
    hosts: Sequence[Host],
    memo: Memo,
    history: Sequence[AttemptRow],
    links: Sequence[LinkRow],
    attained_gpu_s: float,
) -> Waiting:
    spec, done = memo.spec(job), steps_done(history)
    return Waiting(
        job_id=job.id,
        spec=spec,
        priority=job.priority,
        submitted_at=job.submitted_at,
        keys={host.stack_id: memo.key(job.id, spec, host) for host in hosts},
        not_before=job.not_before or 0.0,
        shaky=frozenset(
            host_id
            for past in history
            if past.outcome in (Outcome.LOST, Outcome.NOT_STARTED)
            for host_id in blamed(past)
        ),
        family=memo.family(job.id, spec),
        ran_out=tuple(ran_out_of(past) for past in history if past.outcome is Outcome.OOM),
        project=job.project,
        user=job.user,
        waiting_since=job.queued_at,
        attained_gpu_s=attained_gpu_s,
        steps_done=done,
        steps_left=steps_left(spec.training.steps, done),
        blocked=blocked_of(links),
        across=spec.resources.across_hosts,
        home=home_of(history),
        checkpoint_bytes=checkpoint_bytes(history, spec),
    )


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


def family_told(job: Waiting, profiles: Mapping[str, MemoryProfile | NoProfile]) -> str:
    """The family that a job's trace tells, where it has one: a hub id alone does not say the model_type."""
    for key in job.keys.values():
        found = profiles.get(key)
        if isinstance(found, MemoryProfile) and found.model_type:
            return found.model_type
    return job.family


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
    hosts: tuple[Host, ...],
    queue: Sequence[Waiting],
    profiles: Mapping[str, ProfileRow],
    memo: Memo,
    now: float,
    rows: FleetRows | None = None,
    settings: Settings | None = None,
) -> Fleet:
    """The snapshot. rows, settings: where what runs counts, too."""
    known = profiles_of(profiles, memo, now)
    shaped = tuple(memo.shaped(job, family_told(job, known)) for job in queue)
    if rows is None or settings is None:
        return Fleet(hosts, shaped, known)
    specs = memo.readable_specs(rows.running)
    return Fleet(
        hosts,
        shaped,
        known,
        running_of(rows, specs, settings.rules, now),
        projects_of(rows.projects),
        usage_of(rows.usage, settings.prices),
        cleared=rows.cleared,
    )
