"""What `tuneyard simulate` says: a line a policy, and one a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.units import span
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import Column, Row, show, show_heading, show_line

COLUMNS = (
    Column("  POLICY"),
    Column("JCT", right=True),
    Column("MEDIAN", right=True, keep=4),
    Column("P99", right=True, keep=5),
    Column("WAIT", right=True),
    Column("P99", right=True, keep=8),
    Column("P99.9", right=True, keep=3),
    Column("WORST", right=True, keep=6),
    Column("MAKESPAN", right=True, keep=2),
    Column("GPUS USED", right=True, keep=5),
    Column("FAIRNESS", right=True, keep=6),
    Column("PREEMPTIONS", right=True, keep=7),
    Column("MOVES", right=True, keep=7),
    Column("UNFINISHED", right=True),
)
GROUP_COLUMNS = (
    Column("JOBS", right=True),
    Column("POLICY"),
    Column("JCT", right=True),
    Column("WAIT", right=True),
    Column("P99", right=True, keep=6),
    Column("WORST", right=True, keep=5),
    Column("GPU HOURS", right=True, keep=4),
    Column("PREEMPTIONS", right=True, keep=5),
)


def tell(found: Mapping[str, Any]) -> None:
    """The answer for people. found: as --json has it."""
    for warning in found["warnings"]:
        note(f"warning: {warning}")
    jobs = found["trace"]["jobs"]
    show_line(
        f"{jobs:,} job{'' if jobs == 1 else 's'} of {found['trace']['source']} on {found['fleet']['text']}"
    )
    if found["trace"]["credit"]:
        show_line(f"trace: {found['trace']['credit']}")
    show(COLUMNS, [_row(result) for result in found["results"]])
    if found["by"]:
        show_heading(f"by {found['by']}")
        first = Column(f"  {found['by'].upper()}", flexible=True)
        show((first, *GROUP_COLUMNS), _group_rows(found["results"]))


def _row(result: Mapping[str, Any]) -> Row:
    jct, wait = result["jct"], result["wait"]
    return [
        f"  {result['policy']}",
        span(jct["mean"]),
        span(jct["median"]),
        span(jct["p99"]),
        span(wait["mean"]),
        span(wait["p99"]),
        span(wait["p999"]),
        span(wait["most"]),
        span(result["makespan_s"]),
        f"{result['utilisation']:.0%}",
        f"{result['fairness']:.2f}",
        f"{result['preemptions']:,}",
        f"{result['moves']:,}" if result["moves"] else "",
        f"{result['unfinished']:,}" if result["unfinished"] else "",
    ]


def _group_rows(results: Sequence[Mapping[str, Any]]) -> list[Row]:
    names = list(dict.fromkeys(name for result in results for name in result["groups"]))
    rows: list[Row] = []
    for name in names:
        for index, result in enumerate(results):
            group = result["groups"][name]
            rows.append(
                [
                    f"  {name or '(none)'}" if index == 0 else "",
                    f"{group['jobs']:,}" if index == 0 else "",
                    result["policy"],
                    span(group["jct"]["mean"]),
                    span(group["wait"]["mean"]),
                    span(group["wait"]["p99"]),
                    span(group["wait"]["most"]),
                    _hours(group["gpu_hours"]),
                    f"{group['preemptions']:,}",
                ]
            )
    return rows


def _hours(count: float) -> str:
    return f"{count:,.2f}" if count < 10 else f"{count:,.1f}"
