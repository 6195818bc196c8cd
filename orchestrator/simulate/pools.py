"""What the pools of a fleet mean: walls, guarantees, or nothing; and whether each job fits inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Literal

from jobs.errors import Fault
from orchestrator.scheduler.fleet import Project
from orchestrator.simulate.fleet_file import POOL, FleetFile
from orchestrator.simulate.trace import TraceJob

Borders = Literal["pools", "guarantees", "none"]


def with_borders(
    jobs: Sequence[TraceJob], fleet: FleetFile, borders: Borders
) -> tuple[list[TraceJob], dict[str, Project]]:
    """Jobs and projects as these borders have it.

    pools: a job of a pool runs there and nowhere else. guarantees: it runs anywhere, and the GPUs of its pool are the
    guarantee of the project by that name, which may be borrowed while they are idle; what the fleet file says of a
    project goes before. none: pools mean nothing.
    """
    projects = dict(fleet.projects)
    if borders == "pools":
        return list(jobs), projects
    if borders == "none":
        return [replace(job, pool="") for job in jobs], projects
    for pool, gpus in fleet.pools.items():
        known = projects.get(pool, Project())
        projects[pool] = known if known.guarantee is not None else replace(known, guarantee=gpus)
    return [replace(job, project=job.pool or job.project, pool="") for job in jobs], projects


def misfits(
    jobs: Sequence[TraceJob], where: Sequence[str], fleet: FleetFile, borders: Borders
) -> Iterator[tuple[int, Fault]]:
    """Index and fault of each job that could never run. where: of each job, for the message."""
    everywhere = _by_type(fleet, "")
    pools = {pool: _by_type(fleet, pool) for pool in fleet.pools}
    for index, (job, place) in enumerate(zip(jobs, where, strict=True)):
        inside = everywhere
        if job.pool and borders == "pools":
            if job.pool not in pools:
                yield (
                    index,
                    Fault(f"{place}, pool", job.pool, "is no pool of the fleet", _pools(job.pool, fleet)),
                )
                continue
            inside = pools[job.pool]
        fits, most = _room(job, inside)
        if job.gpus > most:
            of = f"pool {job.pool} has" if inside is not everywhere else "the fleet has"
            cards = "" if fits is None else f" of the cards it fits ({', '.join(sorted(fits)) or 'none'})"
            cards = cards or (" of one type" if len(inside) > 1 else "")
            fix = "leave it out (--skip-misfits), or give the fleet more"
            yield index, Fault(f"{place}, gpus", str(job.gpus), f"{of} {most} GPUs{cards}", fix)


_Type = tuple[str, int]  # name and memory of a card


def _room(job: TraceJob, inside: Mapping[_Type, int]) -> tuple[frozenset[str] | None, int]:
    """The cards that the job may use (None: any), and the most of one type there are: a gang stays on one."""
    fits = None if job.seconds_by_card is None else frozenset(name for name, _ in job.seconds_by_card)
    counts = (count for (card, _), count in inside.items() if fits is None or card in fits)
    return fits, max(counts, default=0)


def _by_type(fleet: FleetFile, pool: str) -> dict[_Type, int]:
    """GPUs by the type of card, in one pool or everywhere."""
    found: dict[_Type, int] = {}
    for host in fleet.hosts:
        if not pool or host.labels.get(POOL) == pool:
            for gpu in host.gpus:
                kind = (gpu.name, gpu.memory_bytes)
                found[kind] = found.get(kind, 0) + 1
    return found


def _pools(given: str, fleet: FleetFile) -> str:
    known = sorted(fleet.pools)
    if not known:
        return "it has none: label its hosts with pool, or simulate with --partition none"
    close = get_close_matches(given, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"it has {', '.join(known[:8])}"
