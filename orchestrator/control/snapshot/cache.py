"""What follows from immutable rows of the store, worked out once: specs, profile keys, profiles, choices."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobs.cards import Card
from jobs.jobfile.spec import JobSpec
from jobs.memory.calibration.interval import Calibration
from jobs.memory.calibration.observations import Group, Observation, family_of, quantisation_of
from jobs.memory.ladder import Choice, NoFit, choose
from jobs.memory.profile import MemoryProfile, trace_key
from jobs.memory.projection import Margin, prior
from jobs.memory.rung import Rung
from jobs.recovery import spent
from orchestrator.control.snapshot.pending_jobs import PendingJobs
from orchestrator.scheduler.feasibility import Chooser
from orchestrator.scheduler.fleet import Host, PendingJob
from orchestrator.scheduler.placement.place import Placement
from orchestrator.store.rows import JobRow, ProfileRow

MOST_CHOICES = 20_000  # kept; a queue has few shapes of jobs, so more are those of jobs long gone


@dataclass(frozen=True)
class LadderTerms:
    """What the ladder is told beside profile, job and card: what was measured, and where this job ran out."""

    margin: Margin | None
    speed: float
    exclude: frozenset[Rung]
    ceiling_bytes: int | None
    length: int | None
    means: tuple[tuple[int, int], ...]
    fullest: tuple[tuple[int, int], ...]
    sample: tuple[int, ...]
    equal_rows: bool


def terms_of(job: PendingJob, card: Card, stack: str, calibration: Calibration) -> LadderTerms:
    """The terms for one job on one card of a host with this stack (Host.stack_id; empty: any)."""
    method, confidence = job.spec.method.kind, job.spec.memory.confidence
    packing = job.quantisation or quantisation_of(method)
    group = Group(job.family, method, packing, card.name, stack)
    margin = calibration.margin(group, confidence, card.allocator)
    alike = job.equal_rows or job.spec.training.packing
    here = margin or prior(card.kind, confidence, card.allocator, alike)
    exclude, ceiling = spent(job.ran_out, card, here.least)
    return LadderTerms(
        margin=margin,
        speed=calibration.speed(group),
        exclude=exclude,
        ceiling_bytes=ceiling,
        length=job.length,
        means=job.means,
        fullest=job.fullest,
        sample=job.sample,
        equal_rows=job.equal_rows,
    )


def chooser(calibration: Calibration) -> Chooser:
    """The ladder's choose(), with what was measured so far."""

    def pick(job: PendingJob, profile: MemoryProfile, card: Card, stack: str = "") -> Choice | NoFit:
        return choose(profile, job.spec, card, **vars(terms_of(job, card, stack, calibration)))

    return pick


def basis_of(job: PendingJob, placement: Placement, calibration: Calibration) -> dict[str, Any]:
    """What the projection of a placement stood on: kept with the attempt, for its observation."""
    stack = placement.host.stack_id
    terms = terms_of(job, placement.gpus[0].card, stack, calibration)
    return {
        "family": job.family,
        "quantisation": job.quantisation or quantisation_of(job.spec.method.kind),
        "trace_key": job.keys[stack],
        "sequence_length": job.length or job.spec.training.sequence_length,
        "data_key": job.data_key,
        "confidence": job.spec.memory.confidence,
        "margin_group": terms.margin.group if terms.margin else "prior",
        "margin": [terms.margin.low, terms.margin.high] if terms.margin else None,
        "margin_beside": list(terms.margin.beside) if terms.margin and terms.margin.beside else None,
        "speed": terms.speed,
        "slowdown": placement.choice.slowdown,
        "expandable": placement.gpus[0].card.expandable,
    }


class SnapshotCache:
    """What follows from immutable rows, computed once: specs, profile keys, profiles, choices. Holds no truth."""

    def __init__(self) -> None:
        self.calibration = Calibration()
        self.pending = PendingJobs()
        self._observed: tuple[Observation, ...] = ()
        self._revisions: dict[int, int] = {}
        self._specs: dict[int, JobSpec] = {}
        self._families: dict[int, tuple[str, str]] = {}
        self._shapes: dict[int, str] = {}
        self._keys: dict[tuple[int, str], str] = {}
        self._profiles: dict[str, MemoryProfile] = {}
        self._choices: dict[tuple[str, str, Card, LadderTerms], Choice | NoFit] = {}

    def branch(self) -> SnapshotCache:
        """One for another thread, which knows what this one does: neither sees what the other learns from then on."""
        made = SnapshotCache()
        made.calibration = self.calibration
        made._shapes, made._choices = {**self._shapes}, {**self._choices}
        return made

    def calibrate(self, observations: Iterable[Observation]) -> bool:
        """Take these observations in place of the ones before; whether they are others."""
        observed = tuple(observations)
        if observed != self._observed:
            self.calibration, self._observed = Calibration(observed), observed
            self._choices.clear()
            return True
        return False

    def spec(self, job: JobRow) -> JobSpec:
        if job.id not in self._specs:
            self._specs[job.id] = JobSpec.model_validate(job.spec)
        return self._specs[job.id]

    def family(self, job_id: int, spec: JobSpec) -> dict[str, Any]:
        """PendingJob's family and quantisation."""
        if job_id not in self._families:
            config = model_config(spec)
            self._families[job_id] = family_of(spec, config), quantisation_of(spec.method.kind, config)
        family, quantisation = self._families[job_id]
        return {"family": family, "quantisation": quantisation}

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

    def choose(self, job: PendingJob, profile: MemoryProfile, card: Card, stack: str = "") -> Choice | NoFit:
        """What chooser() says, once per shape of job, key of its profile on hosts of this stack, card and terms."""
        key = job.keys.get(stack)
        if key is None:
            return chooser(self.calibration)(job, profile, card, stack)
        terms = terms_of(job, card, stack, self.calibration)
        # The pace changes with every job that ends, and no rung's rank with it.
        at_pace_one = replace(terms, speed=1.0)
        known = (self._shape(job), key, card, at_pace_one)
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
            with contextlib.suppress(ValueError):  # pydantic's, and that of a text which is no JSON
                found[job.id] = self.spec(job)
        return found

    def shape(self, job: PendingJob) -> Hashable:
        """Equal for jobs that fit the same cards on the same rungs."""
        keys = tuple(sorted(job.keys.items()))
        return (
            self._shape(job),
            keys,
            job.family,
            job.quantisation,
            job.ran_out,
            job.shaky,
            job.length,
            job.means,
            job.fullest,
            job.sample,
            job.equal_rows,
            job.counted,
            job.apart,
            job.needs,
        )

    def _shape(self, job: PendingJob) -> str:
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

    def forget_all_but(self, revisions: Mapping[int, int]) -> None:
        """Drop what belongs to jobs that left the queue, or whose job file was changed. revisions: by job."""
        job_ids = {job for job, found in revisions.items() if self._revisions.get(job, found) == found}
        self._revisions = dict(revisions)
        self._specs = {job: spec for job, spec in self._specs.items() if job in job_ids}
        self._families = {job: family for job, family in self._families.items() if job in job_ids}
        self._shapes = {job: shape for job, shape in self._shapes.items() if job in job_ids}
        self._keys = {known: key for known, key in self._keys.items() if known[0] in job_ids}
        self.pending.forget_all_but(job_ids)


def model_config(spec: JobSpec) -> dict[str, Any] | None:
    """config.json of a local model folder, where this machine sees it: a changed folder is another architecture."""
    if spec.model.path is None:
        return None
    try:
        value = json.loads((Path(spec.model.path) / "config.json").read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
