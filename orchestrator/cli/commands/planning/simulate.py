"""tuneyard simulate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from jobs.errors import UsageError
from orchestrator.cli.output import emit, json_option, seconds
from orchestrator.cli.render.notes import note

POLICIES = ("fair", "fifo", "shortest", "attained")
GROUPS = ("project", "pool", "user", "gpus")


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
    # Here, not above: with the scheduler comes pydantic, and --help need not wait for it.
    from orchestrator.cli.commands.planning.simulation import run_simulation, tell

    found, drawn = run_simulation(context, given)
    if given["as_json"]:
        emit(found)
    else:
        tell(found)
    if given["plot"]:
        from orchestrator.cli.render.simulate_plot import (
            draw_simulation,  # here: matplotlib, for who wants a picture
        )

        draw_simulation(drawn, given["plot"], given["dark"])
        note(f"drawn in {given['plot']}")
