"""Errors of many comparisons in a few figures."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any


def figures(errors: Sequence[float]) -> dict[str, Any]:
    """How many there are, and the median, mean and worst of them without their sign; None where there are none.

    errors: projected / measured - 1. bias: their mean with the sign.
    """
    sizes = [abs(error) for error in errors]
    return {
        "count": len(sizes),
        "median": round(statistics.median(sizes), 5) if sizes else None,
        "mean": round(statistics.fmean(sizes), 5) if sizes else None,
        "worst": round(max(sizes), 5) if sizes else None,
        "bias": round(statistics.fmean(errors), 5) if sizes else None,
    }


def by_group(rows: Iterable[tuple[str, float]]) -> dict[str, dict[str, Any]]:
    """figures() of the errors of each group, from pairs of group and error."""
    groups: dict[str, list[float]] = defaultdict(list)
    for group, error in rows:
        groups[group].append(error)
    return {group: figures(errors) for group, errors in sorted(groups.items())}


def lines(groups: dict[str, dict[str, Any]]) -> list[str]:
    """The groups as a table for people."""
    made = [f"{'':32} {'count':>5} {'median':>7} {'mean':>7} {'worst':>7} {'bias':>7}"]
    for name, found in groups.items():
        shares = [found[key] for key in ("median", "mean", "worst")]
        if found["count"]:
            cells = " ".join(f"{share:7.2%}" for share in shares)
            made.append(f"{name:32} {found['count']:5} {cells} {found['bias']:+7.2%}")
    return made


def within(found: dict[str, Any], goals: dict[str, float]) -> bool:
    """Whether the figures named by goals are at most what it says; with nothing compared, they are not."""
    return bool(found["count"]) and all(found[name] <= limit for name, limit in goals.items())
