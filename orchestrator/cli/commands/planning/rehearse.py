"""tuneyard rehearse."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from jobs.errors import UsageError
from jobs.units import counted, gib
from orchestrator.cli.flags import job_bodies, job_flags_but
from orchestrator.cli.output import OK, emit, json_option
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import Cell, Column, show, show_heading, show_line
from orchestrator.client.settings import home

RAN_OUT = 3
MOST_STEPS = 100
COLUMNS = (
    Column(""),
    Column("REHEARSED", right=True),
    Column("PROJECTED", right=True),
    Column("ERROR", right=True),
    Column("INTERVAL"),
    Column(""),
)


@click.command("rehearse")
@job_flags_but("card", "steps", "epochs")
@click.option(
    "--card", metavar="NAME",
    help="Card of the catalogue, such as rtx4090; rtx4090:20GiB for less of it. Left out: the job's own, else the one "
    "that a plan picks.",
)  # fmt: skip
@click.option(
    "--steps", type=click.IntRange(1, MOST_STEPS), default=2, show_default=True, metavar="N",
    help="Optimizer steps to make. Memory is at its peak from the second on.",
)  # fmt: skip
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0), default=600.0, show_default=True, metavar="SECONDS",
    help="How long to wait for the memory profile, and for the steps.",
)  # fmt: skip
@json_option
def rehearse_verb(
    as_json: bool,
    files: tuple[Path, ...],
    settings: tuple[str, ...],
    card: str | None,
    steps: int,
    timeout_s: float,
    **flags: Any,
) -> int:
    """Train a job's first steps on a card that is not there: real allocator, no GPU.

    The very job and trainer run in front of a stand-in for CUDA (docs/cuda-double.md), on the rung that `plan` chooses
    for the card, with the longest rows in each step. What torch allocated and reserved stands beside the projection;
    where memory runs out, who held it. Memory is real, speed and loss mean nothing.

    Exit codes: 0 it fits, 3 memory ran out, 2 bad input or nothing to rehearse with here, 1 failed otherwise.
    """
    if len(files) > 1:
        raise UsageError("rehearse takes one job file")
    if not math.isfinite(timeout_s):
        raise UsageError(f"--timeout {timeout_s:g} is no number of seconds; write one such as 600")
    body = job_bodies(files, settings, flags)[0]
    from orchestrator.local.rehearsal import rehearse_here  # here: --help has no use for it

    say = (lambda _: None) if as_json else note
    made = rehearse_here(body, card, steps, home(), timeout_s, say)
    if as_json:
        emit(made)
    else:
        _tell(made)
    return OK if made["fits"] else RAN_OUT


def _tell(made: dict[str, Any]) -> None:
    rows = "" if made["longest"] is None else f", longest row {made['longest']:,} tokens"
    show_heading(
        f"{made['card']}, {gib(made['memory_bytes'])}: {made['rung']['label']}, {counted(made['steps'], 'step')}{rows}"
    )
    show(COLUMNS, [_row(name, figure) for name, figure in made["figures"].items()])
    if made["fits"]:
        free = made["usable_bytes"] - made["figures"]["device"]["bytes"]
        show_line("", Cell(f"fits: {gib(free)} of the card stay free", "green"))
    else:
        show_line("", Cell(f"does not fit: memory ran out {made['where']}: {made['message']}", "red"))
        show_heading("held at that moment")
        width = max((len(name) for name in made["held"]), default=0)
        for name, count in made["held"].items():
            show_line(f"  {name.replace('_', ' ').ljust(width)}  {gib(count).rjust(10)}")
    if made["fits"] and not made["planned_to_fit"]:
        show_line(
            "",
            f"a plan says that it does not fit: its upper bound is {gib(made['upper_bytes'])}; no host would start it",
        )
    for text in made["notes"]:
        show_line("note: ", text)
    show_line("", made["what_it_is"])


def _row(name: str, figure: dict[str, Any]) -> list[Cell | str]:
    off, within = figure["error"], figure["within"]
    low, high = figure["interval"]
    told = {None: Cell(""), True: Cell("within", "green"), False: Cell("outside", "red")}
    return [
        name,
        "" if figure["bytes"] is None else gib(figure["bytes"]),
        gib(figure["projected_bytes"]),
        "" if off is None or within is None else f"{off:+.1%}",
        f"{gib(low)} to {gib(high)}",
        told[within],
    ]
