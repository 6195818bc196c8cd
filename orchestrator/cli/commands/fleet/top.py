"""tuneyard top: cards and jobs, live in a terminal or once in a pipe."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import click

from jobs.units import gib, span
from orchestrator.cli.output import client_verb, emit
from orchestrator.cli.render import words
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import Cell, Column, is_terminal, show, terminal_width
from orchestrator.cli.top.fleet import NO_HOST, CardRow, QueueRow, doing, headline, hosts_of, queue_of
from orchestrator.cli.top.marks import PALETTES, SIGNS
from orchestrator.client.http import Api

if TYPE_CHECKING:
    from orchestrator.schemas import FleetState

BAR = 10
HOSTS_ASKED, WAITING_ASKED = 500, 100
STYLES = {"busy": "cyan", "free": "dim", "idle": "yellow", "faulty": "red", "away": "red", "closed": "dim"}

CARD_COLUMNS = (
    Column("HOST"),
    Column("#", right=True),
    Column("CARD", keep=5, flexible=True),
    Column("MEMORY", keep=8),
    Column("PROJECTED", right=True, keep=4),
    Column("USE", keep=7),
    Column("POWER", right=True, keep=3),
    Column("TEMP", right=True, keep=2),
    Column("", keep=9),
    Column("JOB", keep=8, flexible=True),
    Column("PROGRESS", right=True, keep=7),
    Column("TOKENS/S", right=True, keep=1),
    Column("ETA", right=True, keep=6),
)
WAITING_COLUMNS = (
    Column("ID", right=True),
    Column("NAME", keep=8, flexible=True),
    Column("USER", keep=3, flexible=True),
    Column("SUBMITTED", right=True, keep=2),
    Column("LIKELY START", keep=5),
    Column("REASON", keep=8, flexible=True),
)


@click.command("top")
@click.option("--once", is_flag=True, help="Print it once, and end; so it does in a pipe.")
@click.option("--interval", type=click.FloatRange(0.2, 60), default=1.0, show_default=True, metavar="SECONDS")
@click.option(
    "--palette", type=click.Choice([*PALETTES, "none"]), default=next(iter(PALETTES)), show_default=True,
    help="Colours; both are told apart with any colour blindness. NO_COLOR: none.",
)  # fmt: skip
@client_verb
def top_verb(api: Api, as_json: bool, once: bool, interval: float, palette: str) -> None:
    """Watch cards and jobs live.

    Cards by host with memory, the projected peak in it, use, power and their job; what waits, and why. ? shows the
    keys. A server that goes away is waited for.
    """
    if as_json:
        emit(_whole(api))
    elif once or not is_terminal():
        _print_once(_whole(api))
    else:
        api.get(
            "/fleet", limit=1, queue=0
        )  # what is wrong with server or token is told before the screen is taken
        from orchestrator.cli.top.app import Top  # here: Textual takes 0.2 s, for terminals only

        plain = palette == "none" or bool(os.environ.get("NO_COLOR"))
        Top(lambda: Api(api.server), interval, None if plain else palette).run()


def _whole(api: Api) -> FleetState:
    """Every host, page by page, and the first of the queue."""
    state: Any = api.get("/fleet", limit=HOSTS_ASKED, queue=WAITING_ASKED)
    while len(state["hosts"]["id"]) < state["matching"]:
        later = api.get("/fleet", limit=HOSTS_ASKED, offset=len(state["hosts"]["id"]), queue=0)
        if not later["hosts"]["id"]:
            break  # hosts went meanwhile
        known = set(state["running"]["id"])
        for table in ("hosts", "cards", "running"):
            ids = later[table]["id"]
            fresh = [at for at, id_ in enumerate(ids) if table != "running" or id_ not in known]
            for name, column in later[table].items():
                state[table][name] += [column[at] for at in fresh]
    found: FleetState = state
    return found


def _print_once(state: FleetState) -> None:
    now = time.time()
    line = ", ".join(headline(state))
    click.echo(line[: terminal_width()] if is_terminal() else line)
    if cards := [_card_row(card, now) for host in hosts_of(state) for card in host.cards]:
        click.echo("")
        show(CARD_COLUMNS, cards)
    if waiting := [_waiting_row(job, now) for job in queue_of(state)]:
        click.echo("")
        show(WAITING_COLUMNS, waiting)
    if not state["totals"]["hosts"]:
        note(NO_HOST)
    if (left := state["totals"]["waiting"] - len(waiting)) > 0:
        note(
            f"{left:,} more {'job waits' if left == 1 else 'jobs wait'}: `tuneyard list --state queued --all`"
        )


def _card_row(card: CardRow, now: float) -> list[Cell | str]:
    """One card under CARD_COLUMNS, with the job on it."""
    used, busy, tells = card.used_bytes, card.utilization, STYLES.get(card.state, "")
    trains = card.state in ("busy", "idle")  # of others nobody knows it
    done = f"{100 * (card.step or 0) // card.total_steps}%" if trains and card.total_steps else ""
    said = doing(card, now) or "free"
    left = span(card.eta_s) if trains and card.eta_s is not None else ""
    trouble = card.over or (card.share or 0) >= 0.95
    return [
        card.host,
        str(card.index),
        card.name,
        Cell(
            f"{bar(card.share)} {words.size(used) or '-'} / {gib(card.memory_bytes)}",
            "red" if trouble else "",
        ),
        words.size(card.projected_bytes),
        "-" if busy is None else f"{bar(busy)} {100 * busy:3.0f}%",
        "-" if card.power_w is None else f"{card.power_w:.0f} W",
        "-" if card.temperature_c is None else f"{card.temperature_c:.0f} °C",
        Cell(SIGNS.get(card.state, ""), tells),
        Cell(said, tells),
        Cell(f"{done} hangs", "red") if trains and card.stalled else done,
        f"{card.tokens_per_s:,.0f}" if trains and card.tokens_per_s is not None else "",
        left,
    ]


def _waiting_row(job: QueueRow, now: float) -> list[Cell | str]:
    """One job that waits under WAITING_COLUMNS."""
    likely = ""
    if job.earliest is not None:
        likely = words.until_start({"earliest": job.earliest, "latest": job.latest}, now)
    return [
        str(job.id),
        job.name or "-",
        job.user,
        Cell(words.ago(job.submitted_at, now), "dim"),
        Cell(likely, "green"),
        job.text,
    ]


def bar(share: float | None) -> str:
    """A bar of BAR characters, full at 1."""
    full = 0 if share is None else max(0, min(BAR, round(share * BAR)))
    return "█" * full + "░" * (BAR - full)
