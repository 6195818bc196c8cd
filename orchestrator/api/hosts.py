"""Routes of hosts: join, report, list, drain; and their cards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import Conflict, NotFound
from jobs.report import HostInfo, HostOrders, HostReport, Joined, StopOrder, TraceRequest
from jobs.spec import JobSpec
from orchestrator import schemas
from orchestrator.api import views
from orchestrator.api.actors import actor
from orchestrator.api.checkpoints import kept_orders
from orchestrator.api.edge.refusals import raises
from orchestrator.api.jobs import services
from orchestrator.api.presence import is_online
from orchestrator.api.services import Services
from orchestrator.config import Settings, ray_token
from orchestrator.endings import stop_grace_s
from orchestrator.store.rows import AttemptRow, GpuRow

router = APIRouter()


class Drain(BaseModel):
    """Body of POST /hosts/HOST/drain."""

    model_config = ConfigDict(extra="forbid")

    drained: bool = Field(strict=True)


@router.post("/hosts/join", responses=raises(Conflict))
def join(request: Request, info: HostInfo) -> Joined:
    """A host agent says what it has. The same name joins as the same host again; a namesake is refused."""
    known = services(request)
    if not info.named and known.store.restores():
        raise Conflict(
            f"the agent of {info.name} is of a version that takes files for those of the job that has their id now, "
            "and this database went back to a backup: upgrade it"
        )
    now, hearing = known.controller.clock(), known.controller.hearing
    host_id = known.store.join_host(
        info, now, lambda host_id, seen_at: hearing.silent_s(("host", host_id), seen_at, now)
    )
    known.controller.wake()
    token = ray_token(known.settings.home) if known.settings.ray else ""
    return Joined(
        host_id=host_id,
        yard=known.store.yard(),
        epoch=known.store.epoch(),
        ray_token=token,
        ray_address=known.dispatch.address,
    )


@router.post("/hosts/{host_id}/report", responses=raises(NotFound))
def report(request: Request, host_id: int, news: HostReport) -> HostOrders:
    """News of a host; the answer is what it is to do. Sending the same news twice changes nothing."""
    known = services(request)
    now = known.controller.clock()
    came_up = news.ray_ready and not known.store.host(host_id).ray_ready
    known.store.record_report(host_id, news, now)  # of an epoch before this one: it must join anew
    if (
        came_up
        or not news.boot
        or news.traces
        or any(attempt.ended or attempt.started for attempt in news.attempts)
    ):
        known.controller.wake()
    return orders(known, host_id, news)


def orders(known: Services, host_id: int, news: HostReport) -> HostOrders:
    """What the database says this host is to do now."""
    settings = known.settings
    stops = [stop for attempt in known.store.open_attempts(host_id) if (stop := _stop(attempt, settings))]
    mentioned = {attempt.attempt_id for attempt in news.attempts} | set(news.running)
    strange = known.store.strange_attempts(news.here) if news.here else []
    mentioned -= {one.attempt_id for one in strange}
    return HostOrders(
        epoch=news.epoch,
        stops=stops,
        traces=_traces(known, host_id),
        attempts=known.store.offsets(host_id),
        ray_address=known.dispatch.address,
        forget=sorted(known.store.closed(mentioned)) if mentioned else [],
        sends=known.relay.orders(host_id),
        strange=strange,
        **kept_orders(known, news),
    )


def _stop(attempt: AttemptRow, settings: Settings) -> StopOrder | None:
    """Whether the attempt is to end on its hosts: it was asked to, or it did on another one."""
    if attempt.stop_requested_at is not None:
        return StopOrder(
            attempt_id=attempt.id,
            uuid=attempt.uuid,
            reason=attempt.stop_reason or "cancelled",
            grace_s=settings.preempt_grace_s if attempt.stop_reason == "preempted" else settings.stop_grace_s,
        )
    grace_s = None
    with contextlib.suppress(ValueError):  # an end that this version can't read; the controller tells of it
        grace_s = stop_grace_s(attempt)
    if grace_s is None:
        return None
    return StopOrder(attempt_id=attempt.id, uuid=attempt.uuid, reason="stale", grace_s=grace_s)


def _traces(known: Services, host_id: int) -> list[TraceRequest]:
    """What the host is to trace and to count: of one and the same job in one go, which saves it a process."""
    counts = known.store.pending_lengths(host_id)
    wanted = []
    for row in known.store.pending_profiles(host_id):
        count = next((count for count in counts if count.spec == row.spec), None)
        wanted.append((row.key, row.spec, count.key if count else ""))
    taken = {data_key for *_, data_key in wanted}
    wanted += [("", count.spec, count.key) for count in counts if count.key not in taken]
    requests = []
    for key, spec, data_key in wanted:
        with contextlib.suppress(
            ValueError
        ):  # the job file of another version: others are traced all the same
            requests.append(
                TraceRequest(
                    key=key,
                    spec=JobSpec.model_validate(spec),
                    trusted_models=list(known.settings.trusted_models),
                    data_key=data_key,
                )
            )
    return requests


@router.get("/hosts")
def list_hosts(request: Request) -> dict[str, list[schemas.Host]]:
    """Every host that ever joined."""
    known = services(request)
    by_host = _by_host(known.store.gpus())
    return {
        "hosts": [
            views.host(row, by_host.get(row.id, []), is_online(known, row)) for row in known.store.hosts()
        ]
    }


def _by_host(gpus: Iterable[GpuRow]) -> dict[int, list[GpuRow]]:
    found: dict[int, list[GpuRow]] = {}
    for gpu in gpus:
        found.setdefault(gpu.host_id, []).append(gpu)
    return found


@router.get("/gpus")
def list_gpus(request: Request) -> dict[str, list[schemas.Gpu]]:
    """Every card, with its latest reading and who holds it."""
    known = services(request)
    latest, gpus = known.store.latest_samples(), known.store.gpus()
    by_host = _by_host(gpus)
    hosts = {
        row.id: (views.host_state(row, by_host.get(row.id, []), is_online(known, row)), row.last_seen)
        for row in known.store.hosts()
    }
    return {"gpus": [views.gpu(row, latest.get(row.id), *hosts[row.host_id]) for row in gpus if row.present]}


@router.post("/hosts/{host}/drain", responses=raises(NotFound))
def drain(request: Request, host: str, wanted: Drain) -> dict[str, list[schemas.Host]]:
    """Take a host, by name or id, out of planning, or back in. What runs there goes on."""
    known = services(request)
    row = known.store.find_host(host)
    known.store.set_drained(row.id, wanted.drained, known.controller.clock(), actor(request))
    known.controller.wake()
    return {"hosts": [shown for shown in list_hosts(request)["hosts"] if shown["id"] == row.id]}
