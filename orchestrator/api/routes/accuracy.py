"""The route of accuracy: projected against measured, coverage, the worst misses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from statistics import fmean, median
from typing import Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict

from jobs.errors import NotFound, UsageError
from jobs.memory.calibration.interval import Calibration
from jobs.memory.calibration.observations import FIGURES, PARTS, RAN_OUT, Group, Observation, Part
from jobs.memory.rung import Rung
from orchestrator import schemas
from orchestrator.api.actors import actor
from orchestrator.api.edge.refusals import raises
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.routes.jobs import services
from orchestrator.store import unreadable
from orchestrator.store.observations import NEWEST, Selection

router = APIRouter(route_class=Surviving)
CONFIDENCE = 0.95  # of the intervals shown by group: the job file's default


@router.get("/accuracy")
def accuracy(request: Request, limit: int = Query(NEWEST, ge=1, le=NEWEST)) -> schemas.Accuracy:
    """The newest `limit` attempts that were measured, and what calibration makes of them."""
    store = services(request).store
    seen = store.observations(limit)
    jobs = store.jobs_of_attempts([one.attempt_id for one in seen])
    calibration = Calibration(seen)
    rows = unreadable.each(
        "measurement of attempt",
        seen,
        attrgetter("attempt_id"),
        lambda one: _row(one, *jobs[one.attempt_id], calibration),
    )
    judged = [one.covered for one in seen if one.covered is not None]
    asked = [one.confidence for one in seen if one.covered is not None and one.confidence is not None]
    return {
        "attempts": rows,
        "counted": sum(one.counts for one in seen),
        "outliers": len(calibration.outliers),
        "left_out": _left_out(seen, *store.observation_counts()),
        "ran_out": sum(one.ran_out for one in seen),
        "coverage": {
            "covered": sum(judged),
            "of": len(judged),
            "share": sum(judged) / len(judged) if judged else None,
            "asked": fmean(asked) if asked else None,
        },
        "parts": [_part(part, seen) for part in PARTS],
        "figures": [_figure(name, seen) for name in FIGURES],
        "groups": _groups(seen, calibration),
        "worst": sorted((row for row in rows if row["error"] is not None), key=_badness),
    }


class Unwanted(BaseModel):
    """Body of POST /accuracy/forget: measurements that are all of this. dry_run: only count them."""

    model_config = ConfigDict(extra="forbid")

    job: str | None = None
    family: str | None = None
    card: str | None = None
    dry_run: bool = False


@router.post("/accuracy/forget", responses=raises(NotFound))
def forget(request: Request, unwanted: Unwanted) -> schemas.Forgotten:
    """Leave out what was measured of some attempts, from the next plan on. It can't be undone."""
    known = services(request)
    job_id = None if unwanted.job is None else known.store.find_job(unwanted.job).id
    what = Selection(job_id, unwanted.family, unwanted.card)
    if not what.text:
        raise UsageError("nothing is named; give job, family or card, or several of them")
    now, by = known.controller.clock(), actor(request)
    attempts, jobs = known.store.forget_observations(what, now, by, unwanted.dry_run)
    if not attempts:
        raise NotFound(f"nothing was measured of {what.text}")
    if not unwanted.dry_run:
        known.controller.measured()
        known.controller.wake()
    return {"attempts": attempts, "jobs": jobs}


def _left_out(seen: Sequence[Observation], all_seen: int, unmeasured: int) -> dict[str, int]:
    """What no figure is of. all_seen: observations that there are; unmeasured: attempts that left none."""
    why = Counter(one.incomparable for one in seen if one.incomparable is not None)
    found = {**why, "unmeasured": unmeasured, "older": all_seen - len(seen)}
    return {name: count for name, count in found.items() if count}


def _badness(row: schemas.AccuracyRow) -> tuple[bool, bool, float]:
    """What ran out of memory first, then what came out over its upper bound; among those by how far off it was."""
    return (row["outcome"] != RAN_OUT, row["covered"] is not False, -abs(row["error"] or 0.0))


def _row(
    seen: Observation, job: int, name: str, number: int, calibration: Calibration
) -> schemas.AccuracyRow:
    names = ("allocated_bytes", "reserved_bytes", "device_bytes", "step_s")
    projected: Any = {key: getattr(seen, f"projected_{key}") for key in (*names, "upper_bytes")}
    measured: Any = {key: getattr(seen, f"measured_{key}") for key in names}
    return {
        "job": job,
        "name": name,
        "attempt": number,
        "ts": seen.ts,
        "family": seen.family,
        "method": seen.method,
        "quantisation": seen.quantisation,
        "card": seen.card,
        "card_bytes": seen.card_bytes,
        "rung": Rung(**seen.rung).label,
        "outcome": seen.outcome,
        "phase": seen.phase,
        "sequence_length": seen.sequence_length,
        "confidence": seen.confidence,
        "margin_group": seen.margin_group,
        "expandable": seen.expandable,
        "projected": projected,
        "measured": measured,
        "error": seen.residual(),
        "outlier": seen.attempt_id in calibration.outliers,
        "not_comparable": seen.incomparable,
        "covered": seen.covered,
    }


def _part(part: Part, seen: Sequence[Observation]) -> schemas.PartCoverage:
    judged = [covered for one in seen if (covered := one.covered_part(part)) is not None]
    share = sum(judged) / len(judged) if judged else None
    return {"part": part, "covered": sum(judged), "of": len(judged), "share": share}


def _figure(name: str, seen: Sequence[Observation]) -> schemas.AccuracyFigure:
    """How far one of FIGURES was off. Attempts that ran out are left out: of them only a lower bound is known."""
    found = [error for one in seen if not one.ran_out and (error := one.residual(name)) is not None]
    return {
        "figure": name,
        "count": len(found),
        "median_error": median(map(abs, found)) if found else None,
        "bias": median(found) if found else None,
        "worst": max(found, key=abs) if found else None,
    }


def _groups(seen: Sequence[Observation], calibration: Calibration) -> list[schemas.AccuracyGroup]:
    """A line for each family, method, quantisation and card, the largest first."""
    together: dict[Group, list[Observation]] = {}
    for one in seen:
        group = one.group
        anywhere = Group(group.family, group.method, group.quantisation, group.card, "")
        together.setdefault(anywhere, []).append(one)
    return [
        _group(group, members, calibration)
        for group, members in sorted(together.items(), key=lambda item: -len(item[1]))
    ]


def _group(group: Group, members: Sequence[Observation], calibration: Calibration) -> schemas.AccuracyGroup:
    figure = _figure("device", members)
    judged = [one.covered for one in members if one.covered is not None]
    margin = calibration.margin(group, CONFIDENCE)
    beside = margin.beside if margin else None
    return {
        "family": group.family,
        "method": group.method,
        "quantisation": group.quantisation,
        "card": group.card,
        "count": len(members),
        "ran_out": sum(one.ran_out for one in members),
        "covered": sum(judged),
        "judged": len(judged),
        "median_error": figure["median_error"],
        "worst": figure["worst"],
        "low": margin.low if margin else None,
        "high": margin.high if margin else None,
        "beside_low": beside[0] if beside else None,
        "beside_high": beside[1] if beside else None,
        "margin_group": margin.group if margin else "prior",
        "confidence": CONFIDENCE,
        "speed": calibration.speed(group),
    }
