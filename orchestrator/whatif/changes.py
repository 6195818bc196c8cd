"""What would let a waiting job start sooner: one thing about it changed at a time, and planned with all that waits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from jobs.errors import SpecError
from jobs.jobfile.fields import PRIORITIES
from jobs.jobfile.spec import JobSpec, parse_spec
from jobs.state import Code
from jobs.units import listed_jobs
from orchestrator.scheduler.cache.scheduler_cache import SchedulerCache
from orchestrator.scheduler.eta import PROJECTED_SPREAD
from orchestrator.scheduler.feasibility import Chooser
from orchestrator.scheduler.fleet import Fleet, PendingJob, Project, RunningJob
from orchestrator.scheduler.placement.place import Misfit, Placement
from orchestrator.scheduler.plan import Plan, explain, plan
from orchestrator.scheduler.policy import Rules

_WAITS = (Code.BUSY, Code.BEHIND)  # some card would do, and others have it


@dataclass(frozen=True)
class WhatIf:
    """The fleet with everybody who waits in it, planned at `now` by these rules.

    cache: of the scheduler, by the same chooser; earlier answers have filled it.
    """

    fleet: Fleet
    now: float
    chooser: Chooser
    rules: Rules
    cache: SchedulerCache

    def answer(self, job: PendingJob, fits_now: bool = True) -> str | None:
        """What the job would do if it waits with the others: a verb and where. None: it would still wait.

        fits_now: whether some card would take it as it is; else it is worth saying that one would.
        """
        fleet = replace(self.fleet, queue=(*self.fleet.queue, job))
        self.cache.observe(fleet)
        decided = plan(self.cache.plan_input(fleet, self.now, self.rules))
        placed = decided.starts.get(job.job_id)
        if placed is not None:
            beside = " beside others" if placed.side else ""
            return f"start now on {_where(placed)}{beside}"
        reason = decided.waits[job.job_id]
        if reason.code is Code.ROOM:
            leaving = sorted([*reason.figures.get("stops", ()), *reason.figures.get("awaits", ())])
            return f"start once {_jobs(leaving)} saved and stopped"
        if fits_now or job.blocked is not None:
            return None
        alone = explain(job, fleet, self.chooser)
        if isinstance(alone, Misfit) and alone.reason.code is Code.PROFILE_PENDING:
            return "fit, as far as can be told before its memory profile is traced"
        if isinstance(alone, Misfit) and alone.reason.code not in _WAITS:
            return None
        return "fit, and wait for a card that others hold"


def under_way(fleet: Fleet, decided: Plan, now: float, rules: Rules) -> Fleet:
    """The snapshot with what was decided from it: starts hold their cards, stops give theirs back soon."""
    held = {gpu.id: job_id for job_id, placed in decided.starts.items() for gpu in placed.gpus}
    host_of = {gpu.id: host.id for host in fleet.hosts for gpu in host.gpus}
    running = [
        job
        if (reason := decided.stops.get(job.job_id)) is None
        else replace(
            job, stopping_until=now + rules.stop_s, stopping_for=reason.figures.get("for_job"), asked_at=now
        )
        for job in fleet.running
    ]
    running += [
        _begun(job, placed, host_of[placed.gpus[0].id], now)
        for job in fleet.queue
        if (placed := decided.starts.get(job.job_id)) is not None
    ]
    hosts = tuple(
        replace(
            host,
            gpus=tuple(
                replace(gpu, held_by=held[gpu.id]) if gpu.id in held and gpu.held_by is None else gpu
                for gpu in host.gpus
            ),
        )
        for host in fleet.hosts
    )
    queue = tuple(job for job in fleet.queue if job.job_id not in decided.starts)
    return replace(fleet, hosts=hosts, queue=queue, running=tuple(running))


def _begun(job: PendingJob, placed: Placement, host_id: int, now: float) -> RunningJob:
    seconds = None if job.steps_left is None else job.steps_left * placed.choice.step_s
    return RunningJob(
        job_id=job.job_id,
        attempt_id=0,  # nobody asks
        host_id=host_id,
        gpu_ids=tuple(gpu.id for gpu in placed.gpus),
        priority=job.priority,
        submitted_at=job.submitted_at,
        started_at=now,
        project=job.project,
        user=job.user,
        attained_gpu_s=job.attained_gpu_s,
        ends_at=None if seconds is None else now + seconds,
        spread=PROJECTED_SPREAD,
        shares=job.shares,
        upper_bytes=placed.choice.projection.upper_bytes,
    )


def sooner(job: PendingJob, what_if: WhatIf, fits_now: bool) -> list[str]:
    """Changes to the job file, each with what it would bring if the job were cancelled and submitted so.

    fits_now: whether some card would take the job as it is.
    """
    if job.blocked is not None or job.not_before > what_if.now:
        return []
    queue = tuple(other for other in what_if.fleet.queue if other.job_id != job.job_id)
    without = replace(what_if, fleet=replace(what_if.fleet, queue=queue))
    first = max((other.job_id for other in queue), default=job.job_id) + 1
    number = max(first, job.job_id + 1)
    found = []
    for changes in _changes(job.spec):
        for text, spec in changes:
            brings = without.answer(_anew(job, spec, number, what_if.now), fits_now)
            if brings is not None:
                found.append(f"{text} it would {brings}")
                break
    return found


def with_terms(job: PendingJob, what_if: WhatIf, terms: Project) -> str | None:
    """What becomes of a waiting job if its project had these terms."""
    queue = tuple(other for other in what_if.fleet.queue if other.job_id != job.job_id)
    projects = {**what_if.fleet.projects, job.project: terms}
    fleet = replace(what_if.fleet, queue=queue, projects=projects)
    return replace(what_if, fleet=fleet).answer(job)


def _anew(job: PendingJob, spec: JobSpec, number: int, now: float) -> PendingJob:
    """The job as it would wait if it were submitted now, with another file."""
    left = None if job.steps_left is None else job.steps_left + job.steps_done
    return replace(
        job,
        job_id=number,
        spec=spec,
        priority=spec.priority,
        submitted_at=now,
        waiting_since=now,
        attained_gpu_s=0.0,
        steps_done=0.0,
        steps_left=left,
        across=spec.resources.across_hosts,
        home=None,
        apart=frozenset(),
        shape=None,
        generation=0,
    )


def _where(placed: Placement) -> str:
    return f"{placed.host.name} ({placed.gpus[0].label}, {placed.choice.rung.label})"


def _jobs(ids: list[int]) -> str:
    return f"{listed_jobs(ids)} {'has' if len(ids) == 1 else 'have'}"


_Changes = Sequence[tuple[str, JobSpec]]


def _changes(spec: JobSpec) -> Iterator[_Changes]:
    """The job with one thing changed that leaves what is trained as it is; of several changes the least first."""
    resources = spec.resources
    yield _looser_memory(spec)
    if resources.card is not None:
        yield [
            (
                f"with any card in place of resources.card: {resources.card}",
                _with(spec, "resources", card=None),
            )
        ]
    if resources.min_memory is not None:
        yield [("without resources.min_memory", _with(spec, "resources", min_memory=None))]
    for name in resources.labels:
        rest = {key: value for key, value in resources.labels.items() if key != name}
        yield [(f"without resources.labels.{name}", _with(spec, "resources", labels=rest))]
    if resources.gpus > 1 and not resources.across_hosts:
        yield [("with resources.across_hosts: true", _with(spec, "resources", across_hosts=True))]
    if resources.gpus == 1 and not resources.share:
        yield [("with resources.share: true", _with(spec, "resources", share=True))]
    yield [
        (f"with resources.gpus: {gpus} in place of {resources.gpus} (slower)", fewer)
        for gpus in range(resources.gpus - 1, 0, -1)
        if spec.training.global_batch % gpus == 0 and (fewer := _fewer(spec, gpus)) is not None
    ]
    higher = sorted((priority, name) for name, priority in PRIORITIES.items() if priority > spec.priority)
    yield [
        (f"with priority: {name}", spec.model_copy(update={"priority": priority}))
        for priority, name in higher
    ]


def _looser_memory(spec: JobSpec) -> _Changes:
    memory = spec.memory
    found = []
    if memory.checkpointing != "auto":
        text = f"with memory.checkpointing: auto in place of {_words(memory.checkpointing)}"
        found.append((text, _with(spec, "memory", checkpointing="auto")))
    if memory.micro_batch != "auto":
        text = f"with memory.micro_batch: auto in place of {memory.micro_batch}"
        found.append((text, _with(spec, "memory", micro_batch="auto")))
    if len(found) == 2:
        loose = _with(spec, "memory", checkpointing="auto", micro_batch="auto")
        found.append(("with memory: {checkpointing: auto, micro_batch: auto}", loose))
    return found


def _words(value: object) -> str:
    return f"every_n {value['every_n']}" if isinstance(value, dict) else str(value)


def _with(spec: JobSpec, section: str, **values: object) -> JobSpec:
    return spec.model_copy(update={section: getattr(spec, section).model_copy(update=values)})


def _fewer(spec: JobSpec, gpus: int) -> JobSpec | None:
    """The same on fewer GPUs; None where its micro-batch does not divide what each of them gets."""
    said = spec.model_dump(mode="json", exclude_unset=True)
    try:
        return parse_spec({**said, "resources": {**said.get("resources", {}), "gpus": gpus}})
    except SpecError:
        return None
