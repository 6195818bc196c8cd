"""A simulation as `tuneyard simulate` asks for it: its trace and fleet, each policy run, what is answered.

A module of its own, imported once the verb runs: with the scheduler comes pydantic, and --help need not wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from jobs.errors import SpecError, UsageError
from jobs.units import counted
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.plots import check_dark, check_plot
from orchestrator.cli.render.simulate_text import tell
from orchestrator.client.http import Api
from orchestrator.client.settings import find_server
from orchestrator.scheduler.fleet import Project
from orchestrator.scheduler.policy import Rules
from orchestrator.simulate.engine import simulate
from orchestrator.simulate.fleet_file import FleetFile, describe, guarantee_warnings, load_fleet
from orchestrator.simulate.generate import as_csv, generate, parse_wish
from orchestrator.simulate.history import fleet_of, trace_of
from orchestrator.simulate.metrics import by_group, measure
from orchestrator.simulate.pools import misfits, with_borders
from orchestrator.simulate.trace import Ran, TraceJob
from orchestrator.simulate.trace_csv import Trace, load_trace

__all__ = ["run_simulation", "tell"]

SHOWN = 20  # of misfits, in an error
SETTINGS = (
    *("known", "no_preempt", "move", "card_policy", "no_passing"),
    *("partition", "stop", "restart", "min_run", "patience"),
)


def run_simulation(
    context: click.Context, given: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, list[Ran]]]:
    """The answer as --json has it, and what became of each job, by policy."""
    check_plot(given["plot"])
    check_dark(given["dark"], given["plot"])
    trace, fleet = _inputs(context, given)
    warnings = list(fleet.warnings)
    trace = _fitting(trace, fleet, given, warnings)
    jobs, projects = with_borders(trace.jobs, fleet, given["partition"])
    if not fleet.warnings:
        warnings += guarantee_warnings(projects, fleet.gpus)
    warnings += _strangers(jobs, projects)
    if given["save"]:
        _save(trace.jobs, given["save"])
    answers, drawn = [], {}
    for policy in given["policy"]:
        rules = Rules(
            policy=policy,
            preempt=not given["no_preempt"],
            passing=not given["no_passing"],
            move=given["move"],
            min_run_s=given["min_run"],
            patience_s=given["patience"],
            stop_s=given["stop"],
            restart_s=given["restart"],
        )
        began = time.perf_counter()
        ran = simulate(
            jobs,
            fleet.hosts,
            rules,
            projects,
            known=given["known"],
            stop_s=given["stop"],
            restart_s=given["restart"],
            card_policy=given["card_policy"],
        )
        took_s = time.perf_counter() - began
        groups = by_group(ran, _key(given["by"]), fleet.pools) if given["by"] else {}
        answers.append(
            {
                "policy": policy,
                **measure(ran, fleet.gpus).as_dict(),
                "took_s": round(took_s, 3),
                "groups": {name: group.as_dict() for name, group in groups.items()},
            }
        )
        drawn[policy] = ran
    found = {
        "trace": {
            "source": trace.source,
            "format": trace.format,
            "credit": trace.credit,
            "jobs": len(jobs),
        },
        "fleet": {
            "source": fleet.source,
            "text": describe(fleet),
            "hosts": len(fleet.hosts),
            "gpus": fleet.gpus,
            "pools": fleet.pools,
        },
        "settings": {name: given[name] for name in SETTINGS},
        "by": given["by"],
        "results": answers,
        "warnings": warnings,
    }
    return found, drawn


def _inputs(context: click.Context, given: dict[str, Any]) -> tuple[Trace, FleetFile]:
    """The trace and the fleet that were asked for. Raises UsageError unless that is exactly one of each."""
    asked = [
        name
        for name, there in (
            ("TRACE", given["trace"]),
            ("--generate", given["generate"]),
            ("--from-history", given["from_history"]),
        )
        if there
    ]
    if len(asked) != 1:
        what = f"{' and '.join(asked)} exclude each other" if asked else "there are no jobs to simulate"
        raise UsageError(f"{what}; give one of TRACE (a CSV file), --generate WISH, --from-history")
    if given["where"] and not given["trace"]:
        raise UsageError("--where picks rows of TRACE; without one it has no meaning")
    if not given["fleet"] and not given["from_history"]:
        raise UsageError("--fleet is missing; write hosts: [{count: 4, gpus: 8, card: h100}] in a YAML file")
    fleet = load_fleet(given["fleet"]) if given["fleet"] else None
    if given["from_history"]:
        return _history(context, given, fleet)
    assert fleet is not None
    if given["trace"]:
        return load_trace(given["trace"], given["where"]), fleet
    wish = parse_wish(given["generate"])
    made = generate(wish, fleet.gpus, fleet.pools if given["partition"] != "none" else None)
    places = tuple(f"job {job.job_id}" for job in made)
    return Trace(f"--generate (seed {wish.seed})", tuple(made), places, "generated"), fleet


def _history(
    context: click.Context, given: dict[str, Any], fleet: FleetFile | None
) -> tuple[Trace, FleetFile]:
    shared = context.find_root().params
    server = find_server(given["server"] or shared.get("server"), given["token"] or shared.get("token"))
    api: Api = Api(server)
    try:
        trace = trace_of(api.get("/history")["jobs"], server.url)
        if fleet is None:
            hosts, gpus, projects = (api.get(f"/{name}")[name] for name in ("hosts", "gpus", "projects"))
            fleet = fleet_of(hosts, gpus, projects, server.url)
        return trace, fleet
    finally:
        api.close()


def _fitting(trace: Trace, fleet: FleetFile, given: dict[str, Any], warnings: list[str]) -> Trace:
    """The trace without what could never run, where that is wished; else it is an error."""
    found = list(misfits(trace.jobs, trace.where, fleet, given["partition"]))
    if not found:
        return trace
    if not given["skip_misfits"]:
        raise SpecError([fault for _, fault in found[:SHOWN]], trace.source)
    first = replace(found[0][1], fix="")  # which is to leave it out
    out = {index for index, _ in found}
    if len(out) == len(trace.jobs):
        raise UsageError(f"{trace.source}: no job fits the fleet; the first: {first}")
    warnings.append(f"left out {counted(len(out), 'job')} that the fleet could never run; the first: {first}")
    kept = [index for index in range(len(trace.jobs)) if index not in out]
    return replace(
        trace,
        jobs=tuple(trace.jobs[index] for index in kept),
        where=tuple(trace.where[index] for index in kept),
    )


def _strangers(jobs: list[TraceJob], projects: dict[str, Project]) -> list[str]:
    """Projects of the fleet that no job belongs to: mostly a name that is spelt in two ways."""
    there = {job.project for job in jobs}
    lost = sorted(name for name, terms in projects.items() if terms.guarantee and name not in there)
    return [f"no job belongs to {', '.join(lost[:5])}, which the fleet guarantees GPUs to"] if lost else []


def _key(by: str) -> Callable[[Ran], str]:
    return lambda ran: str(getattr(ran.job, by))


def _save(jobs: tuple[TraceJob, ...], path: Path) -> None:
    try:
        path.write_text(as_csv(jobs), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--save {path} can't be written: {error.strerror or error}") from None
    note(f"{path} has {counted(len(jobs), 'job')}")
