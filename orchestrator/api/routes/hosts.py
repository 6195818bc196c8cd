"""Routes of hosts: join, list, drain; and their cards."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import Conflict, NotFound
from jobs.messages.reports import HostInfo, Joined
from orchestrator import schemas
from orchestrator.api.actors import actor
from orchestrator.api.edge.refusals import raises
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.responses import views
from orchestrator.api.responses.presence import is_online
from orchestrator.api.routes.jobs import services
from orchestrator.config import ray_token
from orchestrator.store import unreadable
from orchestrator.store.rows import GpuRow, HostRow

router = APIRouter(route_class=Surviving)


UNKNOWN = "unknown"


class Drain(BaseModel):
    """Body of POST /hosts/HOST/drain."""

    model_config = ConfigDict(extra="forbid")

    drained: bool = Field(strict=True)
    reason: str = Field("", max_length=200)  # for the event; of those who ask without, none is wanted


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
    token = ray_token(known.settings.home, known.settings.token) if known.settings.ray else ""
    return Joined(
        host_id=host_id,
        yard=known.store.yard(),
        epoch=known.store.epoch(),
        ray_token=token,
        ray_address=known.ray_address(),
    )


@router.get("/hosts")
def list_hosts(request: Request) -> schemas.HostList:
    """Every host that ever joined, and which server leads."""
    known = services(request)
    by_host = _by_host(known.store.gpus())
    hosts = unreadable.each(
        "host",
        known.store.hosts(),
        lambda row: row.name,
        lambda row: views.host(row, by_host.get(row.id, []), is_online(known, row)),
    )
    return {"hosts": hosts, "leader": known.leader()}


def _by_host(gpus: Iterable[GpuRow]) -> dict[int, list[GpuRow]]:
    found: dict[int, list[GpuRow]] = {}
    for gpu in gpus:
        found.setdefault(gpu.host_id, []).append(gpu)
    return found


@router.get("/gpus")
def list_gpus(request: Request) -> schemas.GpuList:
    """Every card, with its latest reading and who holds it."""
    known = services(request)
    latest, gpus = known.store.latest_samples(), known.store.gpus()
    busy = {gpu.host_id for gpu in gpus if gpu.holders}

    def state(row: HostRow) -> tuple[int, str, float]:
        return row.id, views.host_state(row, row.id in busy, is_online(known, row)), row.last_seen

    found = unreadable.each("host", known.store.hosts(), lambda row: row.name, state)
    hosts = {host_id: (said, seen) for host_id, said, seen in found}
    unknown = (UNKNOWN, None)  # of a host that can't be read
    return {
        "gpus": unreadable.each(
            "card",
            [row for row in gpus if row.present],
            lambda row: row.id,
            lambda row: views.gpu(row, latest.get(row.id), *hosts.get(row.host_id, unknown)),
        )
    }


@router.post("/hosts/{host}/drain", responses=raises(NotFound))
def drain(request: Request, host: str, wanted: Drain) -> dict[str, list[schemas.Host]]:
    """Take a host, by name or id, out of planning, or back in. What runs there goes on."""
    known = services(request)
    row = known.store.find_host(host)
    now = known.controller.clock()
    known.store.set_drained(row.id, wanted.drained, now, actor(request), wanted.reason.strip())
    known.controller.wake()
    return {"hosts": [shown for shown in list_hosts(request)["hosts"] if shown["id"] == row.id]}
