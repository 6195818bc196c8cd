"""tuneyard stats: what cards, hosts, jobs and the fleet measured over time, as sparklines."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from jobs.errors import UsageError
from jobs.units import GiB
from orchestrator.cli.output import client_verb, emit
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import Column, Row, clean, show
from orchestrator.client.http import Api

if TYPE_CHECKING:
    from orchestrator.schemas import Series, SeriesLine

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40  # characters of a line
# By field: its name for people, what one of it is in the answer, its unit.
FIELDS = {
    "utilization": ("utilisation", 0.01, "%"),
    "memory_used_bytes": ("memory", GiB, "GiB"),
    "power_w": ("power", 1, "W"),
    "temperature_c": ("temperature", 1, "°C"),
}


@click.command("stats")
@click.option(
    "--since", default="1h", show_default=True, metavar="TIME",
    help="From when: how long ago (30m, 7d), a time (2026-11-28T09:30Z) or Unix seconds.",
)  # fmt: skip
@click.option("--until", default="now", show_default=True, metavar="TIME", help="Up to when.")
@click.option("--host", metavar="HOST", help="A host; with commas between, several; `all` for each one.")
@click.option("--gpu", metavar="CARD", help="A card: HOST/INDEX, its uuid or id; `all` for each one.")
@click.option("--job", metavar="JOB", help="A job's cards, while it held them.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values, a line a step.")
@client_verb
def stats_verb(
    api: Api,
    as_json: bool,
    since: str,
    until: str,
    host: str | None,
    gpu: str | None,
    job: str | None,
    as_csv: bool,
) -> None:
    """Show what was measured over time: utilisation, memory, power, temperature.

    Of the fleet, or of a host, a card or a job. A line of several cards is their mean; LEAST and MOST are of any of
    them at any moment. KWH is what all of them drew.
    """
    kind, of = _subject(host, gpu, job)
    points = 300 if as_json or as_csv or not sys.stdout.isatty() else WIDTH
    found: Series = api.get(
        "/series", kind=kind, of=of, since=since, until=until, fields=",".join(FIELDS), points=points
    )
    if as_json:
        emit(found)
    elif as_csv:
        click.echo(_csv(found), nl=False)
    elif not any(sum(line["n"]) for line in found["series"]):
        note("nothing was measured in that time")
    else:
        _show(found)


def _subject(host: str | None, gpu: str | None, job: str | None) -> tuple[str, str]:
    given = [(kind, of) for kind, of in (("host", host), ("card", gpu), ("job", job)) if of is not None]
    if len(given) > 1:
        raise UsageError("--host, --gpu and --job: give one of them")
    if not given:
        return "fleet", ""
    kind, of = given[0]
    return kind, "" if of == "all" and kind != "job" else of


def _show(found: Series) -> None:
    columns = (
        *(Column("OF", keep=6), Column("WHAT"), Column("MEAN", right=True), Column("LEAST", right=True)),
        *(Column("MOST", right=True), Column(_span(found), keep=8)),
    )
    rows: list[Row] = []
    for line in found["series"]:
        name = line["name"]
        for field, (label, one, unit) in FIELDS.items():
            values = line["values"][field]
            if any(value is not None for value in values["mean"]):
                rows.append([name, label, *_figures(line, field, one, unit), spark(values["mean"], field)])
                name = ""
        drawn = sum(value or 0.0 for value in line["energy_j"])
        if drawn:
            rows.append([name, "energy", f"{drawn / 3.6e6:,.3f} kWh", "", "", ""])
    show(columns, rows)
    if found["source"] != "sample":
        note(f"drawn from each {found['source']}'s mean, least and most")


def _span(found: Series) -> str:
    begin, end = (datetime.fromtimestamp(found["since"], UTC), datetime.fromtimestamp(found["until"], UTC))
    return f"{begin:%m-%d %H:%M} TO {end:%m-%d %H:%M} UTC"


def _figures(line: SeriesLine, field: str, one: float, unit: str) -> list[str]:
    values = line["values"][field]
    told = [(value, n) for value, n in zip(values["mean"], line["n"], strict=True) if value is not None]
    mean = sum(value * n for value, n in told) / sum(n for _, n in told)
    least = min(value for value in values["min"] if value is not None)
    most = max(value for value in values["max"] if value is not None)
    digits = 1 if unit == "GiB" else 0
    return [f"{value / one:,.{digits}f} {unit}" for value in (mean, least, most)]


def spark(values: Sequence[float | None], field: str) -> str:
    """A bar a step, from 0 (of a temperature from the least) to the most; a space where nothing was measured."""
    told = [value for value in values if value is not None]
    low = min(told) if field == "temperature_c" else 0.0
    high = max(told)
    if field == "utilization":
        high = 1.0
    wide = _fewer(values, WIDTH)
    return "".join(" " if value is None else _bar(value, low, high) for value in wide)


def _bar(value: float, low: float, high: float) -> str:
    share = (value - low) / (high - low) if high > low else 0.5
    return BARS[min(len(BARS) - 1, max(0, int(share * len(BARS))))]


def _fewer(values: Sequence[float | None], most: int) -> list[float | None]:
    """At most so many, each the greatest of its neighbours: a short peak stays in sight."""
    size = -(-len(values) // most)
    groups = (values[start : start + size] for start in range(0, len(values), size))
    return [max((value for value in group if value is not None), default=None) for group in groups]


def _csv(found: Series) -> str:
    text = io.StringIO()
    columns = [f"{field}_{stat}" for field in FIELDS for stat in ("mean", "min", "max")]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "ts", "n", "faults", "energy_j", *columns])
    for line in found["series"]:
        values = [line["values"][field][stat] for field in FIELDS for stat in ("mean", "min", "max")]
        for row in zip(found["ts"], line["n"], line["faults"], line["energy_j"], *values, strict=True):
            if row[1]:
                writer.writerow([clean(line["name"]), *row])
    return text.getvalue()
