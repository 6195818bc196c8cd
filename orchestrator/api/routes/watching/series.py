"""Route of lines over time: what cards, hosts, jobs and the fleet measured, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json

from jobs.errors import NotFound
from orchestrator import schemas
from orchestrator.api.context import Services
from orchestrator.api.edge.refusals import bad_parameter, raises
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.edge.times import span
from orchestrator.api.routes.jobs import services
from orchestrator.store.history.fields import FIELDS, STATS
from orchestrator.store.history.lines import Asked, Line, Lines
from orchestrator.store.rows import GpuRow

router = APIRouter(route_class=Surviving)

KINDS = ("card", "host", "job", "fleet")
SHOWN = ("memory_used_bytes", "utilization", "power_w")
MOST_POINTS = 2000
# Numbers in one answer: of 500 hosts an hour of minutes with three fields takes 270,000.
MOST_NUMBERS = 1_000_000
_Subject = dict[str, Any]


@router.get("/series", response_model=schemas.Series, responses=raises(NotFound))
def series(
    request: Request,
    kind: str,
    of: str = "",
    fields: str = ",".join(SHOWN),
    stats: str = ",".join(STATS),
    since: str = "1h",
    until: str = "now",
    points: int = 300,
) -> Response:
    """What was measured over time, as columns over one axis `ts`. kind: card, host, job or fleet; of: which, by id or
    name (a card also by uuid or HOST/INDEX), with commas between, all of them where it is empty; fields: of
    memory_used_bytes, utilization, power_w, temperature_c, sm_clock_mhz and memory_clock_mhz; stats: of mean, min and
    max; since and until: how long ago (2h), a time (ISO 8601) or Unix seconds; points: steps at most.

    The step is chosen by the range, and what is read by the step: samples, minutes or quarters of an hour. A line of
    several cards has their mean, their least and their most; `n` counts samples, `energy_j` is what all of them drew.
    """
    known = services(request)
    if kind not in KINDS:
        raise bad_parameter("kind", kind, f"write one of {', '.join(KINDS)}", "is no kind")
    if not 1 <= points <= MOST_POINTS:
        raise bad_parameter("points", points, f"write a number from 1 to {MOST_POINTS:,}")
    now = known.controller.clock()
    begin, end = span(since, until, now)
    wanted = _listed("fields", fields, FIELDS), _listed("stats", stats, STATS)
    subjects, cards = _subjects(known, kind, of)
    numbers = len(subjects) * points * (len(wanted[0]) * len(wanted[1]) + 4)
    if numbers > MOST_NUMBERS:
        points = max(1, points * MOST_NUMBERS // numbers)
    asked = Asked(begin, end, *wanted, points)
    found = _lines(known, kind, subjects, cards, asked, now)
    return Response(to_json(_answer(kind, subjects, asked, found)), media_type="application/json")


def _listed(name: str, given: str, known: Sequence[str]) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(one.strip() for one in given.split(",") if one.strip()))
    for one in chosen:
        if one not in known:
            raise bad_parameter(name, one, f"write some of {', '.join(known)}", "is none of them")
    if not chosen:
        raise bad_parameter(name, given, f"write some of {', '.join(known)}", "names none")
    return chosen


def _subjects(known: Services, kind: str, of: str) -> tuple[dict[int, _Subject], dict[int, list[int]]]:
    """What is asked for, by id, and the cards of each. Raises NotFound."""
    names = [name.strip() for name in of.split(",") if name.strip()]
    if kind == "job":
        if not names:
            raise bad_parameter("of", of, "name the jobs, by id or name", "names no job")
        rows = [known.store.find_job(name) for name in names]
        return {row.id: {"id": row.id, "name": row.name} for row in rows}, {}
    if kind == "card":
        cards = known.store.gpus()
        chosen = [_card(cards, name) for name in names] if names else [one for one in cards if one.present]
        named = {
            one.id: {"id": one.id, "name": f"{one.host}/{one.index}", "uuid": one.uuid} for one in chosen
        }
        return named, {one.id: [one.id] for one in chosen}
    by_host = known.store.cards_by_host()
    if kind == "fleet":
        if names:
            raise bad_parameter("of", of, "leave it out: there is one fleet", "is not of the fleet")
        return {0: {"id": 0, "name": "fleet"}}, {0: [card for some in by_host.values() for card in some]}
    hosts = [known.store.find_host(name) for name in names] if names else known.store.hosts()
    return {one.id: {"id": one.id, "name": one.name} for one in hosts}, {
        one.id: by_host.get(one.id, []) for one in hosts
    }


def _card(cards: Sequence[GpuRow], name: str) -> GpuRow:
    for card in cards:
        if name in (str(card.id), card.uuid, f"{card.host}/{card.index}"):
            return card
    raise NotFound(f"there is no card {name}; `tuneyard gpus` lists them: write an id, a uuid or HOST/INDEX")


def _lines(
    known: Services,
    kind: str,
    subjects: dict[int, _Subject],
    cards: dict[int, list[int]],
    asked: Asked,
    now: float,
) -> Lines:
    store = known.store
    if kind == "card":
        return store.card_lines(list(subjects), asked)
    if kind == "host":
        return store.host_lines(cards, asked)
    if kind == "fleet":
        return store.fleet_line(cards[0], asked)
    return store.job_lines(list(subjects), asked, now)


def _answer(kind: str, subjects: dict[int, _Subject], asked: Asked, found: Lines) -> dict[str, Any]:
    return {
        "kind": kind,
        "since": asked.since,
        "until": asked.until,
        "step_s": found.step_s,
        "source": found.source,
        "ts": found.ts,
        "series": [{**subjects[line.subject_id], **_columns(line)} for line in found.lines],
    }


def _columns(line: Line) -> dict[str, Any]:
    counts = {"n": line.n, "cards": line.cards, "faults": line.faults, "energy_j": line.energy_j}
    return {**counts, "values": line.values}
