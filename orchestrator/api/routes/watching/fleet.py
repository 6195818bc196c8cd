"""Routes of the fleet as it is now: its state by column, and the stream of its changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from orchestrator import schemas
from orchestrator.api.actors import address
from orchestrator.api.edge.query import check_query
from orchestrator.api.edge.refusals import bad_parameter
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.live.stream import EventStream
from orchestrator.api.responses.fleet_state import MOST_QUEUED
from orchestrator.api.routes.jobs import services

router = APIRouter(route_class=Surviving)
MOST_HOSTS = 1000
SORTS = ("name", "state", "free", "used", "utilization", "power", "temperature")
_TROUBLE = {"faulty": 0, "away": 1, "stopped": 2, "draining": 3, "drained": 4, "online": 5}
_CARD_FIGURES = {"utilization": "utilization", "power": "power_w", "temperature": "temperature_c"}


@router.get("/fleet")
def fleet(
    request: Request,
    offset: int = 0,
    limit: int = MOST_HOSTS,
    sort: str = "name",
    find: str | None = None,
    queue: int = MOST_QUEUED,
) -> schemas.FleetState:
    """Hosts, cards, running jobs and the first of the queue, by column, at most a second old.

    find: only hosts whose name, state or one of whose cards' names, states, faults or jobs (id, name, user, project)
    contains it; sort: of hosts, with a minus in front for the greatest first; offset, limit: of hosts; the jobs are
    those on the cards of these hosts; queue: how many of the queue.
    """
    if not 0 <= offset < 2**31:
        raise bad_parameter("offset", offset, "write how many hosts to pass over")
    if not 1 <= limit <= MOST_HOSTS:
        raise bad_parameter("limit", limit, f"write a number from 1 to {MOST_HOSTS}")
    if sort.removeprefix("-") not in SORTS:
        raise bad_parameter(
            "sort", sort, f"write one of {', '.join(SORTS)}, with a minus for the greatest first"
        )
    if not 0 <= queue <= MOST_QUEUED:
        raise bad_parameter("queue", queue, f"write a number from 0 to {MOST_QUEUED}")
    known = services(request)
    state = known.window.look()
    hosts = _matching(state, (find or "").strip().lower())
    hosts = _ordered(state, hosts, sort)
    return _page(state, hosts, hosts[offset : offset + limit], queue)


async def stream(request: Request) -> Response:
    """The state as server-sent events: docs/watching.md. Past FastAPI's layers, for it does not end."""
    check_query(request, ())
    known, client = services(request), address(request)
    known.feed.admit(client)
    packs = "gzip" in request.headers.get("accept-encoding", "")
    mark = request.headers.get("last-event-id", "")
    return EventStream(known.feed, client, mark, packs)


def _matching(state: Mapping[str, Any], text: str) -> list[int]:
    """Places of the hosts that contain a text, in lower case."""
    hosts, cards, running = state["hosts"], state["cards"], state["running"]
    if not text:
        return [*range(len(hosts["id"]))]
    said = zip(running["id"], running["name"], running["user"], running["project"], strict=True)
    jobs = {id_: f"{id_} {name} {user} {project}".lower() for id_, name, user, project in said}
    found = {
        host
        for host, name, card_state, fault, job in zip(
            *(cards[column] for column in ("host", "name", "state", "fault", "job")), strict=True
        )
        if text in f"{name} {card_state} {fault or ''}".lower() or text in jobs.get(job, "")
    }
    return [
        place
        for place, (id_, name, host_state) in enumerate(
            zip(hosts["id"], hosts["name"], hosts["state"], strict=True)
        )
        if id_ in found or text in f"{name} {host_state}".lower()
    ]


def _ordered(state: Mapping[str, Any], places: list[int], sort: str) -> list[int]:
    """By the sum of a figure over a host's cards; its hottest card for the temperature. Unknown ones come last."""
    name, hosts, cards = sort.removeprefix("-"), state["hosts"], state["cards"]
    keys: dict[int, Any]
    if name == "name":
        keys = dict(enumerate(hosts["name"]))
    elif name == "state":
        keys = {place: _TROUBLE.get(one, 9) for place, one in enumerate(hosts["state"])}
    elif name == "free":
        keys = dict(enumerate(hosts["free"]))
    else:
        together: Callable[[float, float], float] = max if name == "temperature" else lambda a, b: a + b
        by_host: dict[int, float] = {}
        for host, value in zip(cards["host"], cards[_CARD_FIGURES.get(name, "used_bytes")], strict=True):
            if value is not None:
                by_host[host] = together(by_host[host], value) if host in by_host else value
        keys = {place: by_host[id_] for place, id_ in enumerate(hosts["id"]) if id_ in by_host}
    known = [place for place in places if place in keys]
    known.sort(key=lambda place: keys[place], reverse=sort.startswith("-"))
    return [*known, *(place for place in places if place not in keys)]


def _page(
    state: Mapping[str, Any], matching: Sequence[int], places: Sequence[int], queue: int
) -> schemas.FleetState:
    """The part of a state that is of these hosts, in their order."""
    hosts, cards, running = state["hosts"], state["cards"], state["running"]
    made: dict[str, Any] = {**state, "matching": len(matching)}
    if [*places] != [*range(len(hosts["id"]))]:
        rank = {hosts["id"][place]: at for at, place in enumerate(places)}
        kept = [place for place, host in enumerate(cards["host"]) if host in rank]
        kept.sort(key=lambda place: rank[cards["host"][place]])
        shown = {cards["job"][place] for place in kept}
        made["hosts"] = _taken(hosts, places)
        made["cards"] = _taken(cards, kept)
        made["running"] = _taken(running, [at for at, job in enumerate(running["id"]) if job in shown])
    made["queue"] = {name: column[:queue] for name, column in state["queue"].items()}
    return made  # type: ignore[return-value]


def _taken(table: Mapping[str, list[Any]], places: Sequence[int]) -> dict[str, list[Any]]:
    return {name: [column[place] for place in places] for name, column in table.items()}
