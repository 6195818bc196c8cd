"""Moments as people and programs write them in a query: ISO 8601, so long ago, Unix seconds."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import UTC, datetime

from jobs.units import parse_duration
from orchestrator.api.edge.refusals import bad_parameter

HOW = "write how long ago (90s, 2h, 7d), a time (2026-11-28T09:30Z) or Unix seconds, or now"
_LAST = 253_402_300_800.0  # the year 10000


def moment(name: str, text: str, now: float) -> float:
    """Unix seconds. A time without a zone is UTC. Raises BadRequest, which names the parameter."""
    said = text.strip()
    if said.lower() == "now":
        return now
    found = _seconds(said, now)
    if found is None or not math.isfinite(found) or not 0 <= found < _LAST:
        raise bad_parameter(name, text, HOW, "is no time")
    return found


def span(since: str, until: str, now: float) -> tuple[float, float]:
    """The parameters since and until of a query. Raises BadRequest where one is no time, or they are in no order."""
    begin, end = moment("since", since, now), moment("until", until, now)
    if begin >= end:
        raise bad_parameter("since", since, f"give a time before until ({until})", "is not before until")
    return begin, end


def _seconds(said: str, now: float) -> float | None:
    with suppress(ValueError):
        return float(said)
    with suppress(ValueError):
        return max(0.0, now - parse_duration(said))
    if "T" in said:  # the + of a zone, where it was not quoted in the URL
        said = said.replace(" ", "+")
    with suppress(ValueError, OverflowError):
        found = datetime.fromisoformat(said)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    return None
