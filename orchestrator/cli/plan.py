"""tuneyard plan."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.errors import Unavailable, UsageError
from jobs.units import gib
from orchestrator.cli import words
from orchestrator.cli.flags import job_bodies, job_flags
from orchestrator.cli.http import Api
from orchestrator.cli.output import FAILED, OK, client_verb, emit, note
from orchestrator.cli.table import Cell, Column, Row, show, show_heading, show_line

if TYPE_CHECKING:
    from orchestrator.shapes import PlanCard, PlanShape

POLL_S = 0.3

CARD_COLUMNS = (
    Column(" "),
    Column("CARD", flexible=True),
    Column("MEMORY", right=True),
    Column("FREE", right=True, keep=6),
    Column("PEAK", right=True),
    Column("UPPER", right=True, keep=4),
    Column("CHECKPOINTING", keep=8, flexible=True),
    Column("SLOWDOWN", right=True, keep=5),
    Column("STEP", right=True, keep=3),
    Column("WHY NOT", keep=8, wrap=True),
)
TRIED_COLUMNS = (
    Column("  CHECKPOINTING"),
    Column("PEAK", right=True),
    Column("UPPER", right=True, keep=4),
    Column("TIME", right=True),
    Column("FITS"),
)


@click.command("plan")
@job_flags
@click.option("--explain", is_flag=True, help="Every rung that was tried, on every card.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0), default=300.0, show_default=True, metavar="SECONDS",
    help="How long to wait for the memory profile.",
)  # fmt: skip
@client_verb
def plan_verb(
    api: Api,
    as_json: bool,
    files: tuple[Path, ...],
    settings: tuple[str, ...],
    explain: bool,
    timeout_s: float,
    **flags: Any,
) -> int:
    """Show where a job would fit, and at what memory, without submitting it.

    PEAK is the projected peak of the card's memory, UPPER what it stays under at the confidence that the job
    asks for; SLOWDOWN is the time against the same card without checkpointing. * marks the card that would be
    picked. The exit code is 1 when the job fits no card.
    """
    if len(files) > 1:
        raise UsageError("plan takes one job file")
    plan = _ask(api, {"job": job_bodies(files, settings, flags)[0]}, timeout_s, quiet=as_json)
    if as_json:
        emit(plan)
    else:
        _tell(plan, explain)
    return OK if any(card["fits"] for card in plan["cards"]) else FAILED


def _ask(api: Api, body: Any, timeout_s: float, quiet: bool) -> PlanShape:
    deadline = time.monotonic() + timeout_s
    told = ""
    while True:
        status, answer = api.post("/plan", body)
        if status != 202:
            plan: PlanShape = answer
            return plan
        text = str(answer.get("text") or "the memory profile is being traced")
        if not quiet and text != told:
            note(f"{text} ..")
            told = text
        if time.monotonic() >= deadline:
            raise Unavailable(
                f"there is no memory profile after {timeout_s:g} s: {text}; --timeout waits longer"
            )
        time.sleep(POLL_S)


def _tell(plan: PlanShape, explain: bool) -> None:
    if not plan["cards"]:
        note(plan["reason"] or "no cards: no host has joined")
        return
    show(CARD_COLUMNS, [_card_row(card) for card in plan["cards"]])
    _tell_parts([card for card in plan["cards"] if card["projection"]])
    if plan["reason"]:
        click.echo("")
        show_line("", plan["reason"])
    if explain:
        for card in plan["cards"]:
            show_heading(f"{card['card']}, {gib(card['memory_bytes'])}: {len(card['tried'])} tried")
            show(TRIED_COLUMNS, [_tried_row(tried) for tried in card["tried"]])


def _card_row(card: PlanCard) -> Row:
    projection = card["projection"]
    slow = card["slowdown"]
    return [
        Cell("*" if card["pick"] else "", "bold green"),
        Cell(card["card"], "bold" if card["pick"] else ""),
        gib(card["memory_bytes"]),
        f"{card['free']} of {card['count']}",
        Cell(
            words.size(projection["device_bytes"]) if projection else "", "green" if card["fits"] else "red"
        ),
        words.size(projection["upper_bytes"]) if projection else "",
        card["rung"]["label"] if card["rung"] else "",
        "" if slow is None else ("none" if slow < 0.005 else f"+{slow:.0%}"),
        words.duration(projection["step_s"]) if projection else "",
        Cell("" if card["fits"] else card["reason"] or "does not fit", "red"),
    ]


def _tell_parts(cards: list[PlanCard]) -> None:
    """The projected peak by part: a row a part, a column a card."""
    if not cards:
        return
    parts = {name: 0 for card in cards for name in (card["projection"] or {"parts": {}})["parts"]}
    columns = [Column("  PEAK BY PART"), *(Column(card["card"], right=True, keep=8) for card in cards)]
    rows: list[Row] = [
        [f"  {name.replace('_', ' ')}", *(_part(card, name) for card in cards)] for name in parts
    ]
    sys.stdout.write("\n")
    show(columns, rows)


def _part(card: PlanCard, name: str) -> str:
    projection = card["projection"]
    return words.size(projection["parts"].get(name)) if projection else ""


def _tried_row(tried: Any) -> Row:
    slow = tried["relative_time"]
    return [
        f"  {tried['rung']['label']}",
        words.size(tried["device_bytes"]),
        words.size(tried["upper_bytes"]),
        "" if slow is None else f"{slow:.2f}×",
        Cell("yes", "green") if tried["fits"] else Cell("no", "red"),
    ]
