"""A server's answers -> a trace of what it ran, and the fleet that it has. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.errors import UsageError
from orchestrator.scheduler.fleet import Gpu, Host, Project
from orchestrator.simulate.fleet_file import FleetFile
from orchestrator.simulate.trace import TraceJob
from orchestrator.simulate.trace_csv import Trace

LEAST_S = 1.0


def trace_of(past: Sequence[Mapping[str, Any]], source: str) -> Trace:
    """Ended jobs as a trace that begins with the first. Raises UsageError where there is none."""
    if not past:
        raise UsageError(f"no job has ended yet at {source}; give a TRACE, or --generate one")
    first = past[0]["submitted_at"]
    jobs = tuple(
        TraceJob(
            job_id=row["job_id"],
            submit_s=row["submitted_at"] - first,
            duration_s=max(LEAST_S, row["seconds"]),
            gpus=row["gpus"],
            user=row["user"],
            project=row["project"],
            priority=row["priority"],
        )
        for row in past
    )
    return Trace(f"the history of {source}", jobs, tuple(f"job {job.job_id}" for job in jobs), "history")


def fleet_of(
    hosts: Sequence[Mapping[str, Any]],
    gpus: Sequence[Mapping[str, Any]],
    projects: Sequence[Mapping[str, Any]],
    source: str,
) -> FleetFile:
    """The hosts that a server has, whether they are up or not, with the cards that are in them, and projects' terms."""
    by_host: dict[str, list[Gpu]] = {}
    for row in gpus:
        card = Gpu(row["id"], row["uuid"], row["index"], row["kind"], row["name"], row["memory_bytes"])
        by_host.setdefault(row["host"], []).append(card)
    made = tuple(
        Host(row["id"], row["name"], tuple(by_host[row["name"]]), dict(row["labels"]))
        for row in hosts
        if row["name"] in by_host
    )
    if not made:
        raise UsageError(f"{source} has no card; describe a fleet with --fleet FILE")
    terms = {
        row["name"]: Project(row["guarantee"], row["weight"], row["borrows"])
        for row in projects
        if row["own_terms"]
    }
    return FleetFile(f"the hosts of {source}", made, terms)
