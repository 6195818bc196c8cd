"""tuneyard accuracy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.errors import UsageError
from jobs.units import counted, gib
from orchestrator.cli.groups import Verbs
from orchestrator.cli.output import FAILED, client_verb, emit
from orchestrator.cli.render import words
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import Cell, Column, Row, show, show_fields, show_heading, show_line
from orchestrator.client.http import Api

if TYPE_CHECKING:
    from orchestrator.schemas import Accuracy, AccuracyGroup, AccuracyRow, Forgotten

GROUP_COLUMNS = (
    Column("  MODEL", flexible=True),
    Column("METHOD"),
    Column("CARD", flexible=True),
    Column("RUNS", right=True),
    Column("OOM", right=True, keep=6),
    Column("COVERED", right=True, keep=8),
    Column("MEDIAN", right=True, keep=7),
    Column("WORST", right=True, keep=5),
    Column("NEXT INTERVAL", right=True, keep=7),
    Column("FROM", keep=2, flexible=True),
    Column("PACE", right=True, keep=3),
)
MISS_COLUMNS = (
    Column("  JOB", right=True),
    Column("TRY", right=True, keep=3),
    Column("MODEL", keep=6, flexible=True),
    Column("METHOD", keep=4),
    Column("CARD", keep=5, flexible=True),
    Column("CHECKPOINTING", keep=6, flexible=True),
    Column("PROJECTED", right=True),
    Column("UPPER", right=True, keep=8),
    Column("MEASURED", right=True),
    Column("ERROR", right=True),
    Column("OUTCOME", keep=7),
)


PARTS = {"live": "live bytes", "beside": "beside them"}


@click.group("accuracy", cls=Verbs, invoke_without_command=True)
@click.option(
    "--limit", type=click.IntRange(1, 2000), default=2000, show_default=True, metavar="N",
    help="How many of the newest attempts.",
)  # fmt: skip
@click.option(
    "--worst",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    metavar="N",
    help="How many misses to list.",
)
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Draw them, too: .png, .svg or .pdf.",
)  # fmt: skip
@click.option("--dark", is_flag=True, help="The picture on a dark ground.")
@client_verb
def accuracy_verb(api: Api, as_json: bool, limit: int, worst: int, plot: Path | None, dark: bool) -> None:
    """Show projected against measured memory, coverage and the worst misses.

    An ERROR is measured / projected - 1, as in `tuneyard show`: +3% took 3% more than projected. COVERED are the
    attempts that stayed under the upper bound they were placed by. NEXT INTERVAL is what the next such job gets at 95%
    confidence, on CUDA of live bytes and of what the card holds beside them; PACE is measured over projected step time.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return
    from orchestrator.cli.render.plots import (
        check_dark,
        check_plot,
        draw_accuracy,
    )  # here: no other verb pays for it

    check_plot(plot)
    check_dark(dark, plot)
    found: Accuracy = api.get("/accuracy", limit=limit)
    drawn = plot is not None and draw_accuracy(found, plot, dark)
    if as_json:
        emit(found)
    else:
        _tell(found, worst)
    if drawn:
        note(f"drawn in {plot}")
    elif plot is not None:
        note(f"--plot {plot}: nothing to draw, no attempt was measured to its peak yet; no file was written")
        sys.exit(FAILED)


@accuracy_verb.command("forget")
@click.option("--job", metavar="JOB", help="What this job's attempts measured; an id or a name.")
@click.option("--family", metavar="NAME", help="What was measured of this model, as MODEL has it.")
@click.option("--card", metavar="NAME", help="What was measured on this card, as CARD has it.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@client_verb
def forget_verb(
    api: Api, as_json: bool, job: str | None, family: str | None, card: str | None, yes: bool
) -> None:
    """Leave measurements out from now on: those that are all of what is named.

    For what says nothing of jobs to come, such as attempts that ran out of memory over data of their own. The next plan
    does without them; the jobs and how they ended stay. It can't be undone.
    """
    given = {"job": job, "family": family, "card": card}
    wanted = {name: value for name, value in given.items() if value is not None}
    if not wanted:
        raise UsageError("nothing is named; give --job, --family or --card, or several of them")
    if not yes:
        _ask(api.post("/accuracy/forget", {**wanted, "dry_run": True})[1])
    found: Forgotten = api.post("/accuracy/forget", wanted)[1]
    if as_json:
        emit(found)
    else:
        click.echo(f"{_of_jobs(found)} will no longer count")


def _ask(found: Forgotten) -> None:
    """Raises UsageError where nobody can be asked, and Abort where the answer is no."""
    text = _of_jobs(found)
    if not sys.stdin.isatty():
        raise UsageError(f"{text} would no longer count; give --yes")
    click.confirm(f"{text} will no longer count. Forget them?", abort=True, err=True)


def _of_jobs(found: Forgotten) -> str:
    return f"{counted(found['attempts'], 'measurement')} of {counted(found['jobs'], 'job')}"


def _tell(found: Accuracy, worst: int) -> None:
    if not found["attempts"]:
        note("nothing was measured yet: each attempt that ends adds a line")
        return
    count = len(found["attempts"])
    show_line(
        f"{count} {'attempt was' if count == 1 else 'attempts were'} measured; {found['counted']} can be compared"
    )
    for text in _left_out(found["left_out"]):
        show_line(f"  left out: {text}")
    coverage = found["coverage"]
    covered = ""
    if coverage["share"] is not None:
        covered = (
            f"{coverage['covered']} of {coverage['of']} under their upper bound, {coverage['share']:.0%}"
        )
        covered += f" ({coverage['asked']:.0%} was asked for)" if coverage["asked"] is not None else ""
    fields: list[tuple[str, Cell | str]] = [("coverage", covered)]
    for part in found["parts"]:
        if part["share"] is not None:
            text = f"{part['covered']} of {part['of']} under a bound of their own, {part['share']:.0%}"
            fields.append((f"  {PARTS[part['part']]}", text))
    if found.get("outliers"):
        text = f"{_attempts(found['outliers'])} far from all others: each counts as an error of a bound, and no more"
        fields.append(("outliers", text))
    fields += [("out of memory", str(found["ran_out"]) if found["ran_out"] else "")]
    for figure in found["figures"]:
        if figure["count"]:
            median, bias = words.share(figure["median_error"], sign=False), words.share(figure["bias"])
            text = f"median error {median}, bias {bias}, worst {words.share(figure['worst'])}"
            text += f" ({_attempts(figure['count'])})"
            fields.append((figure["figure"], text))
    show_fields(fields)
    show_heading("by model, method and card")
    show(GROUP_COLUMNS, [_group_row(group) for group in found["groups"]])
    misses = found["worst"][:worst]
    if misses:
        show_heading("worst misses")
        show(MISS_COLUMNS, [_miss_row(row) for row in misses])


def _attempts(count: int) -> str:
    return f"{count:,} {'attempt' if count == 1 else 'attempts'}"


def _left_out(counts: dict[str, int]) -> list[str]:
    """What no figure is of, and why."""
    known = {
        **words.INCOMPARABLE,
        "unmeasured": "ended before anything was measured",
        "older": "older than --limit reaches",
    }
    return [f"{_attempts(count)} {known.get(why, why)}" for why, count in counts.items()]


def _group_row(group: AccuracyGroup) -> Row:
    quantised = "" if group["quantisation"] == "none" else f" {group['quantisation']}"
    return [
        f"  {group['family']}",
        group["method"] + quantised,
        group["card"],
        str(group["count"]),
        Cell(str(group["ran_out"]), "red") if group["ran_out"] else "",
        f"{group['covered']} of {group['judged']}",
        words.share(group["median_error"], sign=False),
        words.share(group["worst"]),
        _interval(group),
        group["margin_group"],
        f"{group['speed']:.2f}×",
    ]


def _interval(group: AccuracyGroup) -> str:
    """Of device bytes, or of live bytes and of those beside them."""
    ends = [(group["low"], group["high"]), (group["beside_low"], group["beside_high"])]
    return ", ".join(
        f"{words.share(low)} to {words.share(high)}"
        for low, high in ends
        if low is not None and high is not None
    )


def _miss_row(row: AccuracyRow) -> Row:
    ran_out = row["outcome"] == "oom"
    measured = row["measured"]["device_bytes"]
    return [
        str(row["job"]),
        str(row["attempt"]),
        row["family"],
        row["method"],
        row["card"],
        row["rung"],
        words.size(row["projected"]["device_bytes"]),
        words.size(row["projected"]["upper_bytes"]),
        f"over {gib(row['card_bytes'])}" if ran_out and row["card_bytes"] else words.size(measured),
        Cell(("≥ " if ran_out else "") + words.share(row["error"]), "red" if row["covered"] is False else ""),
        Cell(row["outcome"] + (", outlier" if row.get("outlier") else ""), "red" if ran_out else ""),
    ]
