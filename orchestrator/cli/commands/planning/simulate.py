"""tuneyard simulate."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.errors import SpecError, UsageError
from jobs.units import counted
from orchestrator.cli.output import emit, json_option, seconds
from orchestrator.cli.render.notes import note

if TYPE_CHECKING:
    from orchestrator.client.http import Api
    from orchestrator.scheduler.fleet import Project
    from orchestrator.simulate.fleet_file import FleetFile
    from orchestrator.simulate.trace import Ran, TraceJob
    from orchestrator.simulate.trace_csv import Trace

POLICIES = ("fair", "fifo", "shortest", "attained")
GROUPS = ("project", "pool", "user", "gpus")
SHOWN = 20  # of misfits, in an error


def _policies(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> list[str]:
    wanted = [name.strip() for text in given for name in text.split(",") if name.strip()]
    for name in wanted:
        if name not in POLICIES:
            raise UsageError(f"--policy {name!r} is none; write some of {', '.join(POLICIES)}")
    if not wanted:
        raise UsageError(f"--policy names none; write some of {', '.join(POLICIES)}")
    return list(dict.fromkeys(wanted))


def _pairs(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> list[tuple[str, str]]:
    for text in given:
        if "=" not in text:
            raise UsageError(f"--where {text!r} is no condition; write COLUMN=VALUE, such as trace=base")
    return [(column.strip(), value.strip()) for column, _, value in (text.partition("=") for text in given)]


def _path(**more: Any) -> click.Path:
    return click.Path(dir_okay=False, path_type=Path, **more)


@click.command("simulate")
@click.argument("trace", required=False, type=_path(), metavar="[TRACE]")
@click.option("--fleet", type=_path(), metavar="FILE", help="The fleet: YAML, or a CSV of vc,nodes,gpus.")
@click.option(
    "--policy", multiple=True, default=("fair",), callback=_policies, metavar="NAME,..", show_default=True,
    help="Policies to compare: fair, fifo, shortest, attained.",
)  # fmt: skip
@click.option(
    "--known", type=click.Choice(["never", "soon", "told"]), default="soon", show_default=True,
    help="When the scheduler knows how long a job takes: never, after its first minute, at submission.",
)  # fmt: skip
@click.option("--no-preempt", is_flag=True, help="Never stop a job for another.")
@click.option("--move", is_flag=True, help="Move jobs to cards where they end clearly sooner.")
@click.option(
    "--card-policy", type=click.Choice(["smallest_card", "fastest", "cheapest"]), default="smallest_card",
    show_default=True, help="Which card jobs take, where TRACE has their time by card.",
)  # fmt: skip
@click.option("--no-passing", is_flag=True, help="No job starts before one that is ahead of it.")
@click.option(
    "--partition", type=click.Choice(["pools", "guarantees", "none"]), default="pools", show_default=True,
    help="What a job's pool means: its only hosts, a guarantee that others may borrow, or nothing.",
)  # fmt: skip
@click.option(
    "--stop", default="40s", callback=seconds, show_default=True, metavar="TIME",
    help="What stopping a job takes.",
)  # fmt: skip
@click.option(
    "--restart", default="60s", callback=seconds, show_default=True, metavar="TIME",
    help="What starting it again takes.",
)  # fmt: skip
@click.option(
    "--min-run", default="5m", callback=seconds, show_default=True, metavar="TIME",
    help="No job is stopped before it ran so long.",
)  # fmt: skip
@click.option(
    "--patience", default="5m", callback=seconds, show_default=True, metavar="TIME",
    help="How long a job waits before others of its priority are stopped for it.",
)  # fmt: skip
@click.option("--generate", metavar="WISH", help='Make a trace: "jobs=2000,load=0.9,seed=0,users=24".')
@click.option(
    "--from-history", is_flag=True, help="The jobs that ended on the server; its hosts, too, without --fleet."
)
@click.option(
    "--where", multiple=True, callback=_pairs, metavar="COLUMN=VALUE", help="Only such rows of TRACE.",
)  # fmt: skip
@click.option("--skip-misfits", is_flag=True, help="Leave out jobs that the fleet could never run.")
@click.option("--by", type=click.Choice(GROUPS), help="Figures of each of these, too.")
@click.option("--save", type=_path(), metavar="FILE", help="Write the jobs as a trace of tuneyard's own.")
@click.option("--plot", type=_path(), metavar="FILE", help="Draw it, too: .png, .svg or .pdf.")
@click.option("--dark", is_flag=True, help="The picture on a dark ground.")
@click.option(
    "--server", metavar="URL", help="Server of --from-history; TUNEYARD_URL, or this machine's own."
)
@click.option("--token", metavar="TOKEN", help="Its token; TUNEYARD_TOKEN.")
@json_option
@click.pass_context
def simulate_verb(context: click.Context, /, **given: Any) -> None:
    """Try policies and fleets on a trace of jobs.

    The jobs of TRACE (CSV: submit_s, duration_s, gpus; also job_id, user, project, pool, priority) run on a fleet that
    is not there, through the scheduler's own code on a clock of its own. JCT is completion minus submission; FAIRNESS
    is Jain's index of the users' slowdowns, 1 where all are equal. docs/simulate.md has the files.
    """
    found, drawn = _simulate(context, given)
    if given["as_json"]:
        emit(found)
    else:
        from orchestrator.cli.render.simulate_text import tell  # here: as below

        tell(found)
    if given["plot"]:
        from orchestrator.cli.render.simulate_plot import (
            draw_simulation,  # here: matplotlib, for who wants a picture
        )

        draw_simulation(drawn, given["plot"], given["dark"])
        note(f"drawn in {given['plot']}")


def _simulate(context: click.Context, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, list[Ran]]]:
    """The answer as --json has it, and what became of each job, by policy."""
    # Here, not above: with the scheduler comes pydantic, and --help need not wait for it.
    from orchestrator.cli.render.plots import check_dark, check_plot
    from orchestrator.scheduler.policy import Rules
    from orchestrator.simulate.engine import simulate
    from orchestrator.simulate.fleet_file import describe, guarantee_warnings
    from orchestrator.simulate.metrics import by_group, measure
    from orchestrator.simulate.pools import with_borders

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
    settings = (
        "known",
        "no_preempt",
        "move",
        "card_policy",
        "no_passing",
        "partition",
        "stop",
        "restart",
        "min_run",
        "patience",
    )
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
        "settings": {name: given[name] for name in settings},
        "by": given["by"],
        "results": answers,
        "warnings": warnings,
    }
    return found, drawn


def _inputs(context: click.Context, given: dict[str, Any]) -> tuple[Trace, FleetFile]:
    """The trace and the fleet that were asked for. Raises UsageError unless that is exactly one of each."""
    from orchestrator.simulate.fleet_file import load_fleet  # here: as above
    from orchestrator.simulate.trace_csv import Trace, load_trace

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
    from orchestrator.simulate.generate import generate, parse_wish

    wish = parse_wish(given["generate"])
    made = generate(wish, fleet.gpus, fleet.pools if given["partition"] != "none" else None)
    places = tuple(f"job {job.job_id}" for job in made)
    return Trace(f"--generate (seed {wish.seed})", tuple(made), places, "generated"), fleet


def _history(
    context: click.Context, given: dict[str, Any], fleet: FleetFile | None
) -> tuple[Trace, FleetFile]:
    from orchestrator.client.http import Api  # here: as above
    from orchestrator.client.settings import find_server
    from orchestrator.simulate.history import fleet_of, trace_of

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
    from dataclasses import replace  # here: as above

    from orchestrator.simulate.pools import misfits

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
    from orchestrator.simulate.generate import as_csv  # here: as above

    try:
        path.write_text(as_csv(jobs), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--save {path} can't be written: {error.strerror or error}") from None
    note(f"{path} has {counted(len(jobs), 'job')}")
