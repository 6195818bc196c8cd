"""How far jobs have come: rows of the store -> running jobs with their expected end, and what queued ones have left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jobs.cards import price_of
from jobs.jobfile.spec import JobSpec
from jobs.state import Code, On, Reason, held
from orchestrator.scheduler.eta import MEASURED_SPREAD, PROJECTED_SPREAD, SETTLED_STEPS
from orchestrator.scheduler.fleet import Project, RunningJob
from orchestrator.scheduler.policy import Rules
from orchestrator.store.rows import AttemptRow, FleetRows, JobRow, LinkRow, ProgressRow, ProjectRow, UsageRow
from workers.checkpoints.folders import step_of


def running_of(
    rows: FleetRows, specs: Mapping[int, JobSpec], rules: Rules, now: float
) -> tuple[RunningJob, ...]:
    """The running jobs of a snapshot, by id. specs: of jobs, by id; one that is not readable has no known end."""
    jobs = {job.id: job for job in rows.running}
    found = []
    for attempt in rows.attempts:
        job = jobs.get(attempt.job_id)
        if job is None:  # read a moment apart
            continue
        line = rows.progress.get(attempt.id)
        ends_at, spread = expected_end(attempt, line, specs.get(job.id), now)
        asked = attempt.stop_requested_at
        found.append(
            RunningJob(
                job_id=job.id,
                attempt_id=attempt.id,
                host_id=attempt.host_id,
                gpu_ids=tuple(gpu.id for gpu in attempt.gpus),
                priority=job.priority,
                submitted_at=job.submitted_at,
                started_at=attempt.opened_at,
                project=job.project,
                user=job.user,
                attained_gpu_s=rows.attained.get(job.id, 0.0),
                ends_at=ends_at,
                spread=spread,
                stopping_until=None if asked is None else max(now, asked + rules.stop_s),
                shares=attempt.shared,
                upper_bytes=int(attempt.projection.get("upper_bytes", 0)),
                stopping_for=attempt.stop_for,
                asked_at=asked,
            )
        )
    return tuple(sorted(found, key=lambda job: job.job_id))


def expected_end(
    attempt: AttemptRow, line: ProgressRow | None, spec: JobSpec | None, now: float
) -> tuple[float | None, float]:
    """When an open attempt ends, and the share of the time until then by which that may be off.

    From the pace that was measured; before there is one, from the projected step, where the number of steps is known.
    """
    if line is not None and line.eta_s is not None:
        return max(now, line.ts + line.eta_s), MEASURED_SPREAD if line.step >= SETTLED_STEPS else 0.5
    steps = None if spec is None else spec.training.steps
    step_s = projected_step_s(attempt)
    if steps is None or not step_s:
        return None, 0.0
    began = attempt.started_at or now
    return max(now, began + steps * step_s), PROJECTED_SPREAD


def learned_pace(attempt: AttemptRow) -> float:
    """Measured over projected step time of attempts like this one, as it was known when this one was placed."""
    return float((attempt.basis or {}).get("speed") or 1.0)


def projected_step_s(attempt: AttemptRow) -> float | None:
    """What a step of an attempt was to take by its plan, at the pace of attempts like it. None: nobody knows."""
    step_s = attempt.projection.get("step_s")
    return step_s * learned_pace(attempt) if step_s else None


def checkpoint_step(attempt: AttemptRow) -> int | None:
    """The step of the last checkpoint that an ended attempt had; None: it had none, or nobody knows of any."""
    if not attempt.last_checkpoint:
        return None
    step = step_of(Path(attempt.last_checkpoint))
    return (attempt.steps or 0) if step is None else step


def steps_done(history: Sequence[AttemptRow]) -> float:
    """Optimizer steps that a queued job need not do again: up to its last checkpoint."""
    last = newest(history)
    return 0.0 if last is None else float(checkpoint_step(last) or 0)


def home_of(history: Sequence[AttemptRow]) -> int | None:
    """The host where a queued job's newest checkpoint is."""
    last = newest(history)
    return None if last is None else last.host_id


def checkpoint_bytes(history: Sequence[AttemptRow], spec: JobSpec) -> int:
    """Of a job's newest checkpoint; as projected where nobody has measured it, 0 where nobody knows.

    history: its attempts; of one that has no checkpoint yet, what the next will have.
    """
    last = newest(history) or (history[-1] if history else None)
    if last is None:
        return 0
    measured = (last.measured or {}).get("checkpoint_bytes")
    if measured is not None:
        return int(measured)
    return result_bytes(last, spec) + int(last.projection.get("parts", {}).get("optimizer", 0))


def result_bytes(attempt: AttemptRow, spec: JobSpec) -> int:
    """Of the adapter or model that a job makes, as projected; 0 where nobody knows."""
    trained = "weights" if spec.method.kind == "full" else "adapters"
    return int(attempt.projection.get("parts", {}).get(trained, 0))


def newest(history: Sequence[AttemptRow]) -> AttemptRow | None:
    """The attempt with the newest checkpoint; of equal ones the last, which fetched its own."""
    kept = [attempt for attempt in history if attempt.last_checkpoint]
    return max(kept, key=lambda attempt: (checkpoint_step(attempt) or 0, attempt.number), default=None)


def total_steps(history: Sequence[AttemptRow], spec: JobSpec) -> int | None:
    """Optimizer steps of a whole job: as it says, or as its trainer counted them, where it goes by epochs."""
    told = [(attempt.measured or {}).get("total_steps") for attempt in history]
    return spec.training.steps or next((steps for steps in reversed(told) if steps), None)


def projects_of(rows: Sequence[ProjectRow]) -> dict[str, Project]:
    return {row.name: Project(row.guarantee, row.weight, row.borrows) for row in rows}


def usage_of(rows: Sequence[UsageRow], prices: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """Decayed GPU-seconds by project and user, weighted by card price. A card without one counts as the cheapest."""
    least = min((price for price in prices.values() if price > 0), default=1.0)
    found: dict[tuple[str, str], float] = {}
    for row in rows:
        weight = (price_of(prices, row.gpu) or least) / least
        found[row.project, row.user] = found.get((row.project, row.user), 0.0) + row.gpu_s * weight
    return found


def held_of(job: JobRow) -> Reason | None:
    """Why a job may not start whatever is free: somebody holds it."""
    return None if job.held_at is None else held(job.id, job.held_by or "", job.held_at)


_ENDS = {On.SUCCESS: "to succeed", On.FAILURE: "to fail", On.ANY: "to end"}


def blocked_of(links: Sequence[LinkRow]) -> Reason | None:
    """Why a job may not start whatever is free: the jobs that it comes after and that have not ended."""
    if not links:
        return None
    figures = {"after": [link.after_id for link in links]}
    first = links[:3]
    waits = [
        f"{', '.join(f'job {link.after_id} ({link.state})' for link in first if link.on is on)} {_ENDS[on]}"
        for on in dict.fromkeys(link.on for link in first)
    ]
    more = f", and for {len(links) - 3} more" if len(links) > 3 else ""
    return Reason(Code.AFTER, f"waits for {', and for '.join(waits)}{more}", figures)
