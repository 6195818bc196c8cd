"""tuneyard usage: where GPU-seconds and energy went."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from orchestrator.cli.output import client_verb, emit
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import Cell, Column, Row, clean, show
from orchestrator.client.http import Api

if TYPE_CHECKING:
    from orchestrator.schemas import Usage, UsageLine

BY = ("project", "user", "job", "card")
PARTS = ("training_s", "startup_s", "recompute_s", "lost_s", "idle_s")
BEHIND_S = 180.0  # history is two minutes behind at most, where it is not catching up
CSV = ("name", "id", "user", "attempts", "gpu_s", *PARTS, "energy_j", "energy_kwh", "price")


@click.command("usage")
@click.option(
    "--by", type=click.Choice(BY), default="project", show_default=True, help="A line for each of these."
)
@click.option(
    "--since", default="30d", show_default=True, metavar="TIME",
    help="From when: how long ago (12h, 30d), a time (2026-11-28T09:30Z) or Unix seconds.",
)  # fmt: skip
@click.option("--until", default="now", show_default=True, metavar="TIME", help="Up to when.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values, seconds and joules.")
@client_verb
def usage_verb(api: Api, as_json: bool, by: str, since: str, until: str, as_csv: bool) -> None:
    """Show where GPU-hours and energy went.

    The parts add up to the leased time: TRAINING, START-UP until the first step, RECOMPUTE (what checkpointing cost,
    as projected), LOST (trained after the last checkpoint of an attempt that a fault or another job ended), IDLE (held,
    and the card did nothing). A shared card counts by the share of its memory. PRICE wants `serve --price`.
    """
    found: Usage = api.get("/usage", by=by, since=since, until=until)
    if as_json:
        emit(found)
    elif as_csv:
        click.echo(_csv(found), nl=False)
    elif not found["lines"]:
        note("no card was held in that time")
    else:
        rows = [_row(line, by) for line in found["lines"]]
        show(_columns(by), [*rows, _row(found["total"], by)] if len(rows) > 1 else rows)
    known = found["measured_until"]
    if not as_json and found["lines"] and (known is None or known < found["until"] - BEHIND_S):
        until = (
            "so far" if known is None else f"after {datetime.fromtimestamp(known, UTC):%Y-%m-%d %H:%M} UTC"
        )
        note(f"what cards measured {until} is not taken up yet: IDLE and KWH lack it")


def _columns(by: str) -> tuple[Column, ...]:
    who = (
        (Column("JOB", right=True), Column("NAME", keep=8), Column("USER", keep=6))
        if by == "job"
        else (Column(by.upper(), keep=8),)
    )
    hours = ("GPU-HOURS", "TRAINING", "START-UP", "RECOMPUTE", "LOST", "IDLE", "KWH", "PRICE")
    return (*who, *(Column(name, right=True) for name in hours))


def _row(line: UsageLine, by: str) -> Row:
    who = [str(line.get("id", "")), line["name"], line.get("user", "")] if by == "job" else [line["name"]]
    return [
        *who,
        f"{line['gpu_s'] / 3600:,.2f}",
        *(_share(line, part) for part in PARTS),
        f"{line['energy_kwh']:,.2f}",
        "-" if line["price"] is None else f"{line['price']:,.2f}",
    ]


def _share(line: UsageLine, part: str) -> Cell | str:
    seconds: float = line[part]  # type: ignore[literal-required]
    if not line["gpu_s"]:
        return "-"
    wasted = part in ("lost_s", "idle_s") and seconds > 0.1 * line["gpu_s"]
    return Cell(f"{seconds / line['gpu_s']:.1%}", "yellow" if wasted else "")


def _csv(found: Usage) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for line in found["lines"]:
        row = dict(line)
        for key in ("name", "user"):
            row[key] = clean(str(row.get(key, "")))
        writer.writerow(row)
    return text.getvalue()
