"""Routes that ask the planner without changing anything: plan, why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from jobs.ladder import Choice, NoFit, choose
from jobs.profile import MemoryProfile
from jobs.spec import JobSpec
from jobs.state import Code, JobState, Reason
from jobs.units import gib
from orchestrator import shapes
from orchestrator.api import views
from orchestrator.api.intake import JobInput, read_job
from orchestrator.api.jobs import services
from orchestrator.api.services import Services
from orchestrator.fleet import Fleet, Gpu, Waiting
from orchestrator.placement import Misfit, Placement
from orchestrator.plan import explain
from orchestrator.snapshot import Memo, fleet_of, hosts_of
from orchestrator.store.rows import JobRow

router = APIRouter()


class PlanRequest(BaseModel):
    """Body of POST /plan."""

    model_config = ConfigDict(extra="forbid")

    job: JobInput


@router.post("/plan", response_model=None)
def plan(request: Request, wanted: PlanRequest) -> JSONResponse | dict[str, Any]:
    """What the job would take on each card type of the fleet. 202 while its memory profile is being traced."""
    known = services(request)
    spec = read_job(wanted.job, known.settings, known.facts())
    fleet, job = _alone(known, spec)
    found = explain(job, fleet, _chooser)
    if isinstance(found, Misfit) and found.untraced:
        now = known.controller.clock()
        for key, host_id in found.untraced.items():
            known.store.want_profile(key, spec.model_dump(mode="json", exclude_unset=True), now)
            known.store.assign_profile(key, host_id, now)
    cards = _cards(job, fleet)
    pending = isinstance(found, Misfit) and found.reason.code is Code.PROFILE_PENDING
    if not cards and pending:
        return JSONResponse({"pending": next(iter(job.keys.values()), ""), "text": found.reason.text}, 202)  # type: ignore[union-attr]
    reason = found.reason.text if isinstance(found, Misfit) else None
    return {"job": spec.name or wanted.job.source, "cards": cards, "reason": reason}


def _chooser(job: Waiting, profile: MemoryProfile, card: Any) -> Choice | NoFit:
    return choose(profile, job.spec, card)


def _alone(known: Services, spec: JobSpec, job_id: int = 0) -> tuple[Fleet, Waiting]:
    """The fleet as it is, and this job as if it were the only one that waits."""
    now = known.controller.clock()
    hosts = hosts_of(known.store.fleet_rows(), now, known.settings, known.controller.started_at)
    memo = Memo()
    keys = {host.stack_id: memo.key(job_id, spec, host) for host in hosts}
    job = Waiting(job_id, spec, spec.priority, now, keys)
    return fleet_of(hosts, [job], known.store.profiles(set(keys.values())), memo, now), job


def _unheld(fleet: Fleet, wanted: Callable[[Gpu], bool]) -> Fleet:
    """The fleet with the wanted cards alone, and nobody on them."""
    hosts = tuple(
        replace(
            host, ray_ready=True, gpus=tuple(replace(gpu, held_by=None) for gpu in host.gpus if wanted(gpu))
        )
        for host in fleet.hosts
    )
    return replace(fleet, hosts=tuple(host for host in hosts if host.gpus))


def _cards(job: Waiting, fleet: Fleet) -> list[shapes.PlanCard]:
    """One entry a card type, smallest first. The pick is what the planner would take if no card were held."""
    ideal = explain(job, _unheld(fleet, lambda gpu: True), _chooser)
    pick = ideal.gpus[0].label if isinstance(ideal, Placement) else None
    types: dict[tuple[str, int], list[tuple[Gpu, MemoryProfile]]] = {}
    for host in fleet.hosts:
        profile = fleet.profiles.get(job.keys[host.stack_id])
        if host.open and isinstance(profile, MemoryProfile):
            for gpu in host.gpus:
                types.setdefault((gpu.name, gpu.memory_bytes), []).append((gpu, profile))
    return [
        _card(job, fleet, members, pick)
        for _, members in sorted(types.items(), key=lambda item: (item[0][1], item[0][0]))
    ]


def _card(
    job: Waiting, fleet: Fleet, members: list[tuple[Gpu, MemoryProfile]], pick: str | None
) -> shapes.PlanCard:
    gpu, profile = members[0]
    choice = _chooser(job, profile, gpu.card)
    verdict = explain(job, _unheld(fleet, lambda other: other.label == gpu.label), _chooser)
    fits = isinstance(verdict, Placement)
    best = choice if isinstance(choice, Choice) else None
    return {
        "card": gpu.name,
        "memory_bytes": gpu.memory_bytes,
        "count": len(members),
        "free": sum(g.held_by is None and g.usable for g, _ in members),
        "fits": fits,
        "rung": views.rung(vars(best.rung)) if best else None,
        "projection": views.projection((best.projection if best else choice.smallest).as_dict()),  # type: ignore[union-attr]
        "slowdown": best.slowdown if best else None,
        "reason": None if isinstance(verdict, Placement) else verdict.reason.text,
        "pick": fits and gpu.label == pick,
        "tried": [
            {
                "rung": views.rung(vars(tried.rung)),
                "device_bytes": tried.projection.device_bytes,
                "upper_bytes": tried.projection.upper_bytes,
                "fits": tried.fits,
                "relative_time": tried.relative_time,
            }
            for tried in choice.tried
        ],
    }


@router.get("/jobs/{job}/why")
def why(request: Request, job: str) -> shapes.Why:
    """Why it waits, host by host; or how it came to be where it is."""
    known = services(request)
    row = known.store.find_job(job)
    view = views.job(known.store.job_view(row.id))
    if row.state is not JobState.QUEUED:
        return {"job": view, "hosts": [], "advice": _advice_after(row)}
    spec = JobSpec.model_validate(row.spec)
    fleet, waiting = _alone(known, spec, row.id)
    found = explain(waiting, fleet, _chooser)
    if isinstance(found, Placement):
        text = f"would start on {found.gpus[0].label} ({found.choice.rung.label}); {row.reason.text}"
        return {
            "job": view,
            "hosts": [{"host": found.host.name, "verdict": text, "code": str(row.reason.code)}],
            "advice": [],
        }
    verdicts: list[shapes.HostVerdict] = [
        {"host": name, "verdict": reason.text, "code": str(reason.code)}
        for name, reason in found.by_host.items()
    ]
    return {"job": view, "hosts": verdicts, "advice": _advice(spec, found.reason, fleet, waiting)}


def _advice(spec: JobSpec, reason: Reason, fleet: Fleet, job: Waiting) -> list[str]:
    """What would make it start."""
    if reason.code is Code.MEMORY:
        advice = []
        if spec.memory.checkpointing == "off" or spec.memory.micro_batch != "auto":
            freed = spec.model_copy(
                update={
                    "memory": spec.memory.model_copy(update={"checkpointing": "auto", "micro_batch": "auto"})
                }
            )
            where = [
                host.name
                for host in fleet.hosts
                for gpu in host.gpus
                if isinstance(profile := fleet.profiles.get(job.keys[host.stack_id]), MemoryProfile)
                and isinstance(choose(profile, freed, gpu.card), Choice)
            ]
            if where:
                advice.append(f"memory: {{checkpointing: auto, micro_batch: auto}} would fit on {where[0]}")
        largest = max((gpu.memory_bytes for host in fleet.hosts for gpu in host.gpus), default=0)
        advice.append(
            f"a shorter training.sequence_length, a smaller model, or a card larger than {gib(largest)} would do"
        )
        return advice
    texts = {
        Code.NO_HOST: "bring a host up: `tuneyard up` here, or `tuneyard host run --server URL --token T` there",
        Code.GANG: f"ask for fewer GPUs than {spec.resources.gpus}, or add a host with that many cards of one type",
        Code.NO_CARD: "loosen resources.card, min_memory or labels; `tuneyard gpus` shows what there is",
        Code.BUSY: "raise its priority, or wait: it starts when a card that fits is free",
        Code.PROFILE_FAILED: "the error above says what to mend; it is tried again every 5 minutes",
    }
    return [texts[reason.code]] if reason.code in texts else []


def _advice_after(row: JobRow) -> list[str]:
    texts = {
        Code.OOM: f"`tuneyard show {row.id}` has projected against measured; memory.confidence: 0.99 keeps more room",
        Code.FAILED: f"`tuneyard logs {row.id}` has the traceback; `tuneyard requeue {row.id}` tries again",
        Code.LOST: f"`tuneyard requeue {row.id}` runs it again",
        Code.BAD_INPUT: "mend the job file and submit it again",
    }
    return [texts[row.reason.code]] if row.reason.code in texts else []
