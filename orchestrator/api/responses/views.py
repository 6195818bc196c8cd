"""Rows of the store -> the shapes of the API's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.cards import CardKind
from jobs.jobfile.steps import step_kind
from jobs.memory.calibration.observations import incomparable, wanted
from jobs.memory.project import Rung
from jobs.memory.projection import error
from jobs.state import JobState, Outcome
from orchestrator import schemas
from orchestrator.api.checkpoints import Standing
from orchestrator.control.snapshot.build import rests_until
from orchestrator.control.snapshot.progress import projected_step_s
from orchestrator.store.hosts.readings import SampleRow
from orchestrator.store.rows import (
    ActionRow,
    AttemptRow,
    EvaluationRow,
    EventRow,
    GpuRow,
    HostRow,
    JobRow,
    JobView,
    LinkRow,
    ProgressRow,
)
from orchestrator.whatif.start_times import StartInterval

_MEMORY = ("allocated_bytes", "reserved_bytes", "device_bytes")


def not_finite(line: ProgressRow | EvaluationRow) -> str | None:
    """A line's loss in words, where it is no finite number. Older hosts left the word out."""
    return None if line.loss is not None else line.loss_text or "nan"


def _evaluation(found: EvaluationRow | None) -> schemas.EvaluationShape | None:
    return None if found is None else {"step": found.step, "loss": found.loss, "loss_text": not_finite(found)}


def _start(found: StartInterval | None) -> schemas.StartShape | None:
    return None if found is None else {"earliest": found.earliest, "latest": found.latest}


def job(
    view: JobView,
    starts: Mapping[int, StartInterval] | None = None,
    now: float | None = None,
    silences: Mapping[int, schemas.SilenceShape] | None = None,
) -> schemas.Job:
    """A row of a list. starts: when queued jobs are likely to, as far as it was worked out; now: None where nobody
    asks how long ago its last step was; silences: hosts that are not there, by id.
    """
    row, attempt = view.job, view.attempt
    running = row.state is JobState.RUNNING
    silent = _silent(attempt, silences or {}) if running and attempt else None
    spec = row.spec
    model, method = spec["model"], spec.get("method", {})
    config = model.get("config") or {}
    resources = spec.get("resources", {})
    projection = attempt.projection if attempt else {}
    measured = (attempt.measured or {}) if attempt else {}
    device = measured.get("device_bytes") or (view.progress.device_bytes if view.progress else None)
    return {
        "id": row.id,
        "name": row.name,
        "state": str(row.state),
        "reason": row.reason.as_dict(),  # type: ignore[typeddict-item]
        "user": row.user,
        "priority": row.priority,
        "gpus": 0 if row.step_of is not None else resources.get("gpus", 1),
        "method": method.get("kind", "lora"),
        "model": model.get("path") or f"{config.get('model_type')} (random weights)",
        "trainer": spec.get("trainer", "sft"),
        "submitted_at": row.submitted_at,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "attempts": attempt.number if attempt else 0,
        "progress": progress(view.progress, now if running else None, silent is not None)
        if view.progress
        else None,
        "evaluation": _evaluation(view.evaluation),
        "host": attempt.host if attempt else None,
        "hosts": [*attempt.hosts.values()] if attempt else [],
        "silent": silent,
        "cards": [gpu.name for gpu in attempt.gpus] if attempt else [],
        "rung": rung(attempt.rung)["label"] if attempt and attempt.gpus else None,
        "projected_bytes": projection.get("device_bytes"),
        "measured_bytes": device,
        "cancel_requested": row.cancel_requested_at is not None,
        "start": _start((starts or {}).get(row.id)) if row.state is JobState.QUEUED else None,
        "project": row.project,
        "group": row.group_id,
        "step": step_kind(spec),
        "step_of": row.step_of,
        "after": [
            {"job": link.after_id, "on": str(link.on), "state": str(link.state)} for link in view.links
        ],
    }


def step(row: JobRow, attempts: Sequence[AttemptRow]) -> schemas.StepShape:
    """A step as the job shows it whose training it follows. attempts: its own."""
    last = attempts[-1] if attempts else None
    return {
        "job": row.id,
        "kind": step_kind(row.spec) or "",
        "state": str(row.state),
        "reason": row.reason.as_dict(),  # type: ignore[typeddict-item]
        "made": (last.measured or {}).get("made") if last else None,
        "result": last.result if last else None,
        "host": last.host if last else None,
    }


def _silent(attempt: AttemptRow, silences: Mapping[int, schemas.SilenceShape]) -> schemas.SilenceShape | None:
    """Of the hosts of an attempt the one that has been silent for longest."""
    found = [silences[host_id] for host_id in attempt.hosts if host_id in silences]
    return min(found, key=lambda one: one["since"], default=None)


def submitted(row: JobRow, links: Sequence[LinkRow] = ()) -> schemas.Job:
    """A job that has no attempt yet."""
    return job(JobView(row, None, None, tuple(links)))


def groups(rows: Sequence[JobRow], values: Sequence[Mapping[str, Any]]) -> list[schemas.GroupShape]:
    """The groups among jobs that were submitted together. values: what a matrix gave each of them."""
    made: dict[int, schemas.GroupShape] = {}
    for row, given in zip(rows, values, strict=True):
        if row.group_id is None:
            continue
        name = "" if "name" in given else row.name.rpartition("-")[0]
        group = made.setdefault(row.group_id, {"id": row.group_id, "name": name, "jobs": [], "values": []})
        group["jobs"].append(row.id)
        group["values"].append(dict(given))
    return list(made.values())


def group_name(names: Sequence[str]) -> str:
    """The name of the group whose jobs are NAME-1, NAME-2 and so on; empty where they have names of their own."""
    stem = names[0].rpartition("-")[0] if names else ""
    return stem if stem and all(name.rpartition("-")[0] == stem for name in names) else ""


def job_full(
    shown: schemas.Job,
    spec: dict[str, Any],
    attempts: list[schemas.Attempt],
    events: list[EventRow],
    data: schemas.PlanData | None,
    warnings: list[str],
    steps: list[schemas.StepShape],
) -> schemas.JobFull:
    """One job with its history."""
    return {
        **shown,  # type: ignore[typeddict-item] # a Job has no `unreadable`
        "spec": spec,
        "warnings": warnings,
        "steps": steps,
        "data": data,
        "attempts_detail": attempts,
        "events": [event(one) for one in events],
    }


def event(row: EventRow) -> schemas.EventShape:
    return {
        "ts": row.ts,
        "kind": row.kind,
        "text": row.text,
        "attempt": row.attempt,
        "by": row.actor,
        "address": row.address,
    }


def action(row: ActionRow) -> schemas.ActionShape:
    """One line of the audit listing."""
    found = row.event
    return {
        "id": found.id,
        "ts": found.ts,
        "kind": found.kind,
        "text": found.text,
        "subject": row.subject,
        "job": found.job_id,
        "by": found.actor or "",
        "address": found.address or "",
    }


def event_line(row: ActionRow) -> schemas.EventLine:
    """An event among those of all jobs and hosts."""
    shown: schemas.EventLine = {
        **event(row.event),
        "id": row.event.id,
        "subject": row.subject,
        "job": row.event.job_id,
        "host": row.host,
        "card": row.event.gpu_id,
    }
    return shown


# A step that takes so many times as long as those before it, and so long at least, may never end.
STALLED_STEPS, STALLED_S = 10.0, 30.0


def progress(row: ProgressRow, now: float | None = None, silent: bool = False) -> schemas.ProgressShape:
    """now: while its job runs; silent: its host is not there, and nobody knows whether it trains on."""
    age_s = None if now is None else max(0.0, now - row.ts)
    stalled = age_s is not None and age_s > max(STALLED_S, STALLED_STEPS * (row.step_s or 0.0))
    stalled, unknown = stalled and not silent, stalled or silent
    return {
        "step": row.step,
        "total_steps": row.total_steps,
        "loss": row.loss,
        "loss_text": not_finite(row),
        "skipped": row.skipped,
        "tokens_per_s": None if unknown else row.tokens_per_s,
        "eta_s": None if unknown else row.eta_s,
        "ts": row.ts,
        "step_s": row.step_s,
        "age_s": age_s,
        "stalled": stalled,
    }


def rung(value: Mapping[str, Any]) -> schemas.RungShape:
    made = Rung(**value)
    return {
        "every_n": made.every_n,
        "micro_batch": made.micro_batch,
        "accumulation": made.accumulation,
        "offload": made.offload,
        "precompute": made.precompute,
        "label": made.label,
    }


def projection(value: Mapping[str, Any], step_s: float | None) -> schemas.ProjectionShape:
    """step_s: at the pace of jobs like it."""
    names = ("parts", "phase", "allocated_bytes", "reserved_bytes", "device_bytes", "upper_bytes")
    made: Any = {name: value.get(name) for name in names}
    later = {name: value.get(name, {}) for name in ("phases", "intervals")}
    shape: schemas.ProjectionShape = made | later | {"step_s": step_s}
    return shape


def attempt(row: AttemptRow, latest: ProgressRow | None, left: Standing) -> schemas.Attempt:
    """One try, projected beside measured. While it runs, measured is the latest progress."""
    measured = row.measured or {}
    if latest is not None and not row.measured:
        measured = {
            "allocated_bytes": latest.allocated_bytes,
            "reserved_bytes": latest.reserved_bytes,
            "device_bytes": latest.device_bytes,
            "step_s": latest.step_s,
            "tokens_per_s": latest.tokens_per_s,
            "last_loss": latest.loss,
            "skipped": latest.skipped,
        }
    names = ("allocated_bytes", "reserved_bytes", "device_bytes", "step_s", "tokens_per_s")
    steps = row.steps if row.steps is not None else (latest.step if latest else None)
    known = any(measured.get(name) is not None for name in _MEMORY)
    why_not = _incomparable(row, measured, steps) if known else None
    errors = _errors(row, measured, why_not) if measured and row.gpus else None
    return {
        "id": row.id,
        "number": row.number,
        "host": row.host,
        "hosts": [*row.hosts.values()],
        "gpus": [{"id": gpu.id, "uuid": gpu.uuid, "name": gpu.name, "host": gpu.host} for gpu in row.gpus],
        "card_bytes": _card_bytes(row) or None,
        "rung": rung(row.rung) if row.gpus else None,
        "projection": projection(row.projection, projected_step_s(row)) if row.gpus else None,
        "measured": {name: measured.get(name) for name in names} if measured and row.gpus else None,  # type: ignore[typeddict-item]
        "errors": errors,
        "not_comparable": why_not,
        "outcome": str(row.outcome) if row.outcome else None,
        "message": row.message or None,
        "steps": steps,
        "total_steps": latest.total_steps if latest else None,
        "first_loss": measured.get("first_loss"),
        "last_loss": measured.get("last_loss"),
        "last_loss_text": not_finite(latest) if latest is not None else None,
        "skipped": measured.get("skipped", 0),
        "eval_loss": measured.get("eval_loss"),
        "opened_at": row.opened_at,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "last_checkpoint": row.last_checkpoint,
        "resumed": row.resumed,
        "checkpoints": [*left.listed],
        "checkpoints_gone": left.gone,
        "result": row.result,
        "made": measured.get("made"),
    }


def _incomparable(row: AttemptRow, measured: Mapping[str, Any], steps: int | None) -> str | None:
    """As jobs.memory.calibration.observations has it of an observation; while the attempt runs, its steps so far
    tell of its peak.
    """
    upper = int(row.projection.get("upper_bytes") or 0)
    made_two = (steps or 0) >= 2 if row.outcome is None else measured.get("step_s") is not None
    kind: CardKind = "cpu" if row.gpus[0].kind == "cpu" else "cuda"
    return incomparable(kind, row.outcome is Outcome.OOM, made_two, _card_bytes(row), upper)


def _errors(row: AttemptRow, measured: Mapping[str, Any], why_not: str | None) -> dict[str, float | None]:
    """By figure; of memory only where that can be compared, of time not beside others on the card."""
    seen = {name: measured.get(name) for name in (*_MEMORY, "step_s")}
    if row.outcome is Outcome.OOM:
        seen["device_bytes"] = wanted(seen["device_bytes"], _card_bytes(row))
    unsaid = {*(_MEMORY if why_not else ()), *(("step_s",) if row.shared else ())}
    expected = {**row.projection, "step_s": projected_step_s(row)}
    return {
        name: None if name in unsaid else error(expected.get(name), value) for name, value in seen.items()
    }


def _card_bytes(row: AttemptRow) -> int:
    """What an attempt had of its card."""
    if not row.gpus:  # a step
        return 0
    return int(row.projection.get("upper_bytes") or 0) if row.shared else row.gpus[0].memory_bytes


def host_state(row: HostRow, held: bool, online: bool) -> str:
    """held: whether an attempt holds a card of it.

    stopped: its agent ended in good order; away: it fell silent; draining: no new work, and some is left on it;
    faulty: no trainer could start there when one was to last.
    """
    if row.left:
        return "stopped"
    if not online:
        return "away"
    if row.drained:
        return "draining" if row.running or held else "drained"
    return "faulty" if row.fault else "online"


def host(row: HostRow, gpus: list[GpuRow], online: bool) -> schemas.Host:
    state = host_state(row, any(gpu.holders for gpu in gpus), online)
    row.info["home"], row.info["output_root"]  # as orchestrator.control.readable looks at it
    present = [gpu for gpu in gpus if gpu.present]
    return {
        "id": row.id,
        "name": row.name,
        "state": state,
        "drained": row.drained,
        "labels": row.info.get("labels", {}),
        "gpus": len(present),
        "free": sum(gpu.job_id is None and gpu.fault is None for gpu in present) if state == "online" else 0,
        "last_seen": row.last_seen,
        "stack": row.info.get("stack", {}),
        "version": row.info.get("version", ""),
        "ray_ready": row.ray_ready,
        "disks": [
            {name: disk[name] for name in ("holds", "path", "free_bytes", "total_bytes")}  # type: ignore[misc]
            for disk in row.disks or ()
        ],
        "fault": row.fault,
        "aside": [f"{one['text']}, in aside/{one['name']}" for one in row.aside or ()],
        "tried_again_at": rests_until(row) if row.fault else None,
    }


def gpu(
    row: GpuRow, sample: SampleRow | None, host_state: str, host_seen: float | None = None
) -> schemas.Gpu:
    return {
        "id": row.id,
        "uuid": row.uuid,
        "host": row.host,
        "host_state": host_state,
        "host_seen": host_seen,
        "index": row.index,
        "kind": row.kind,
        "name": row.name,
        "memory_bytes": row.memory_bytes,
        "fault": row.fault,
        "job": row.job_id,
        "jobs": [holder.job_id for holder in row.holders],
        "attempt": row.attempt_id,
        "sample": {name: value for name, value in vars(sample).items() if name != "gpu_id"}
        if sample
        else None,
    }
