"""Route of usage: where GPU-seconds and energy went, by project, user, job or card."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request

from jobs.cards import price_of
from orchestrator import schemas
from orchestrator.api.edge.refusals import bad_parameter
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.edge.times import span
from orchestrator.api.routes.jobs import services
from orchestrator.store.accounting.parts import Parts
from orchestrator.store.accounting.report import LeaseUsage

router = APIRouter(route_class=Surviving)

_J_PER_KWH = 3.6e6
_BY: dict[str, Callable[[LeaseUsage], Any]] = {
    "project": lambda one: one.project,
    "user": lambda one: one.user,
    "job": lambda one: one.job_id,
    "card": lambda one: one.card,
}


@router.get("/usage")
def usage(request: Request, by: str = "project", since: str = "30d", until: str = "now") -> schemas.Usage:
    """Where leased GPU-seconds went: training, start-up, recomputing (what checkpointing cost), lost to faults and
    preemption, held but idle; with the energy that the cards drew meanwhile, and its price. by: project, user, job or
    card; since, until: how long ago (30d), a time (ISO 8601) or Unix seconds. The parts add up to the leased time.
    """
    known = services(request)
    if by not in _BY:
        raise bad_parameter("by", by, f"write one of {', '.join(_BY)}", "is none of them")
    now = known.controller.clock()
    begin, end = span(since, until, now)
    prices = known.settings.prices
    found = known.store.lease_usage(begin, end, now)
    together: dict[Any, list[LeaseUsage]] = defaultdict(list)
    for one in found:
        together[_BY[by](one)].append(one)
    lines = [_line(by, some, prices) for some in together.values()]
    lines.sort(key=lambda line: (-line["gpu_s"], line["name"]))
    total = _sum("total", found, prices)
    return {
        "by": by,
        "since": begin,
        "until": min(end, now),
        "measured_until": known.store.history_until(),
        "lines": lines,
        "total": total,
    }


def _line(by: str, some: Sequence[LeaseUsage], prices: Mapping[str, float]) -> schemas.UsageLine:
    first = some[0]
    made = _sum(first.job if by == "job" else str(_BY[by](first)), some, prices)
    if by == "job":
        made["id"], made["user"] = first.job_id, first.user
    return made


def _sum(name: str, some: Sequence[LeaseUsage], prices: Mapping[str, float]) -> schemas.UsageLine:
    parts, energy_j = Parts(), 0.0
    price: float | None = 0.0
    for one in some:
        parts = parts.plus(one.parts)
        energy_j += one.energy_j
        an_hour = price_of(prices, one.card_name)
        price = None if price is None or an_hour is None else price + an_hour * one.parts.total_s / 3600
    return {
        "name": name,
        "attempts": len({one.attempt_id for one in some}),
        "gpu_s": round(parts.total_s, 3),
        "startup_s": round(parts.startup_s, 3),
        "training_s": round(parts.training_s, 3),
        "recompute_s": round(parts.recompute_s, 3),
        "lost_s": round(parts.lost_s, 3),
        "idle_s": round(parts.idle_s, 3),
        "energy_j": round(energy_j, 1),
        "energy_kwh": round(energy_j / _J_PER_KWH, 6),
        "price": None if price is None else round(price, 4),
    }
