"""tuneyard metrics: what a training told of its steps, as a table, CSV, JSON or a picture."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.errors import UsageError
from jobs.units import counted, span
from orchestrator.cli.commands.jobs.columns import loss
from orchestrator.cli.commands.jobs.follow_metrics import Each, follow_metrics
from orchestrator.cli.output import client_verb, emit
from orchestrator.cli.render import words
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.plots import check_dark, check_plot
from orchestrator.cli.render.table import (
    Cell,
    Column,
    Row,
    Stream,
    is_terminal,
    show,
    show_line,
    terminal_width,
)
from orchestrator.client.http import Api, job_path

if TYPE_CHECKING:
    from orchestrator.schemas import MetricPoint, Metrics

COLUMNS = (
    Column("STEP", right=True),
    Column("ATTEMPT", right=True, keep=1),
    Column("TIME", right=True, keep=4),
    Column("LOSS", right=True),
    Column("EVAL LOSS", right=True),
    Column("LEARNING RATE", right=True, keep=6),
    Column("TOKENS/S", right=True, keep=5),
    Column("STEP TIME", right=True, keep=3),
    Column("MEMORY", right=True, keep=2),
)
CSV_COLUMNS = (
    *("step", "attempt", "ts", "loss", "eval_loss", "learning_rate"),
    *("tokens", "tokens_per_s", "step_s", "device_bytes"),
)
WIDEST = ("100000", "1", "23h59m", "1234.567", "1234.567", "0.000123", "123,456", "9.99 s", "99.99 GiB")
ROWS = 40  # of a table, unless --every, --last or --all say otherwise
ON_TERMINAL = "-"  # what --plot is without a file


@click.command("metrics")
@click.argument("job")
@click.option("--follow", "-f", "following", is_flag=True, help="Go on until the job has ended.")
@click.option("--every", type=click.IntRange(1), metavar="N", help="Each n-th line, and the last.")
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only the n last lines.")
@click.option("--all", "everything", is_flag=True, help=f"All lines, not {ROWS} of them.")
@click.option("--csv", "as_csv", is_flag=True, help="All as comma-separated values.")
@click.option(
    "--plot",
    is_flag=False,
    flag_value=ON_TERMINAL,
    metavar="[FILE]",
    help="Draw the curves: here, or as a picture (.png, .svg or .pdf; needs matplotlib).",
)
@click.option("--dark", is_flag=True, help="The picture on a dark ground.")
@client_verb
def metrics_verb(
    api: Api,
    as_json: bool,
    job: str,
    following: bool,
    every: int | None,
    last: int | None,
    everything: bool,
    as_csv: bool,
    plot: str | None,
    dark: bool,
) -> None:
    """Show loss, evaluation loss, learning rate and tokens/s of a job, step by step.

    JOB is an id or a name. The attempts of a job are one curve: steps that were trained again stand once. Of a long
    training some hundred lines are kept, spread over all steps. nan is a loss that is no finite number. With --follow,
    lines are printed as they come, that of a step once more when its evaluation comes later, and a server that restarts
    is waited for.
    """
    if as_json + as_csv + (plot is not None) > 1:
        raise UsageError("--json, --csv and --plot are three forms of one answer; give one of them")
    if following:
        if plot is not None:
            raise UsageError("--follow prints lines as they come; without it --plot draws what there is")
        _follow(api, job, as_json, as_csv, every, last, everything)
        return
    file = None if plot in (None, ON_TERMINAL) else Path(str(plot))
    check_plot(file)
    check_dark(dark, file)
    asked = {name: value for name, value in (("every", every), ("last", last)) if value is not None}
    found: Metrics = api.get(job_path(job, "/metrics"), **asked)
    points = found["points"]
    if as_json:
        emit(found)
    elif as_csv:
        _write_csv(points)
    elif not points:
        note(_none(found))
    elif file is not None:
        from orchestrator.cli.commands.jobs.curves import draw_metrics  # here: no other form needs it

        draw_metrics(found, file, dark)
        note(f"drew {file}")
    elif plot is not None:
        from orchestrator.cli.commands.jobs.curves import text_plot

        _show_title(found)
        click.echo(text_plot(points, terminal_width() if is_terminal() else 100))
    else:
        _show_title(found)
        shown = points if everything or asked or len(points) <= ROWS else _spread(points, ROWS)
        show(COLUMNS, [_row(point, points[0]["ts"]) for point in shown])
        if len(shown) < len(points):
            note(f"{len(shown)} of {counted(len(points), 'line')}; --all, --last N or --every N shows others")


def _follow(
    api: Api, job: str, as_json: bool, as_csv: bool, every: int | None, last: int | None, everything: bool
) -> None:
    """Lines as they come; of those that are there already as many as without --follow. JSON comes at the end."""
    each, stream, begun = Each(every or 1), Stream(COLUMNS, WIDEST), [0.0]

    def tell(found: Metrics, points: list[MetricPoint]) -> None:
        first = not begun[0]
        begun[0] = begun[0] or points[0]["ts"]
        shown = each.of(points)
        if first and last is not None:
            shown = shown[-last:]
        elif first and not (as_csv or everything or every) and len(shown) > ROWS:
            note(f"{ROWS} of {len(shown):,} lines so far; --all, --last N or --every N shows others")
            shown = _spread(shown, ROWS)
        if as_csv:
            _write_csv(shown, titles=first)
            sys.stdout.flush()
        elif not as_json:
            stream.show([_row(point, begun[0]) for point in shown])

    whole = follow_metrics(api, job, tell)
    if as_json:
        asked = {name: value for name, value in (("every", every), ("last", last)) if value is not None}
        emit(api.get(job_path(str(whole["job"]), "/metrics"), **asked))


def _none(found: Metrics) -> str:
    label = f"job {found['job']} ({found['name']})" if found["name"] else f"job {found['job']}"
    if found["state"] == "queued":
        return f"{label} is queued: it has not trained a step yet; `tuneyard why {found['job']}` says why"
    if found["state"] == "running":
        return f"{label} is running and has told nothing yet; its first line comes after its first step"
    return f"{label} {'was ' if found['state'] == 'cancelled' else ''}{found['state']} before its first step"


def _show_title(found: Metrics) -> None:
    points = found["points"]
    total = next((point["total_steps"] for point in reversed(points) if point["total_steps"]), None)
    named = f"job {found['job']} ({found['name']})" if found["name"] else f"job {found['job']}"
    steps = f"step {points[-1]['step']}" + (f" of {total}" if total else "")
    show_line(f"{named}, {found['state']}: {steps}")


def _spread(points: list[MetricPoint], count: int) -> list[MetricPoint]:
    """So many of the points, spread evenly, with the first and the last, and all that are no number or evaluations
    as far as they are few.
    """
    told = {at for at, point in enumerate(points) if point["not_finite"] or point["eval_loss"] is not None}
    told = told if len(told) <= count // 2 else set()
    free = count - len(told)
    even = {round(at * (len(points) - 1) / (free - 1)) for at in range(free)}
    return [points[at] for at in sorted(even | told)]


def _row(point: MetricPoint, begun: float) -> Row:
    rate = point["learning_rate"]
    return [
        str(point["step"]),
        str(point["attempt"]),
        Cell(span(max(0.0, point["ts"] - begun)), "dim"),
        _loss(point, "loss"),
        _loss(point, "eval_loss"),
        "" if rate is None else f"{rate:.3g}",
        "" if point["tokens_per_s"] is None else f"{point['tokens_per_s']:,.0f}",
        words.duration(point["step_s"]),
        words.size(point["device_bytes"]),
    ]


def _loss(point: MetricPoint, name: str) -> Cell | str:
    if name in point["not_finite"]:
        return Cell(point["not_finite"][name], "red")
    value: Any = dict(point)[name]
    return loss(value)


def _write_csv(points: list[MetricPoint], titles: bool = True) -> None:
    """A value that is no number is nan, one that there is not is empty."""
    out = csv.writer(sys.stdout, lineterminator="\n")
    if titles:
        out.writerow(CSV_COLUMNS)
    for point in points:
        values = {**point, **point["not_finite"]}
        out.writerow(["" if values[name] is None else values[name] for name in CSV_COLUMNS])
