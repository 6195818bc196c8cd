"""tuneyard audit: who asked for what, and from where."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from orchestrator.cli.output import client_verb, emit
from orchestrator.cli.render import words
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import Cell, Column, Row, show
from orchestrator.client.http import Api

if TYPE_CHECKING:
    from orchestrator.schemas import ActionPage, ActionShape

COLUMNS = (
    Column("WHEN", right=True),
    Column("BY", keep=8),
    Column("FROM", keep=5),
    Column("ON", keep=7),
    Column("ACTION", keep=6),
    Column("WHAT", wrap=True),
)


@click.command("audit")
@click.option(
    "--limit", "-n", type=click.IntRange(1, 1000), default=50, show_default=True, metavar="N",
    help="How many.",
)  # fmt: skip
@click.option(
    "--before", type=click.IntRange(0), metavar="ID", help="Actions before this one, for older ones."
)
@client_verb
def audit_verb(api: Api, as_json: bool, limit: int, before: int | None) -> None:
    """List who asked for what, and from where.

    Cancels, holds, changes, requeues, drains and terms of projects, newest first. BY is the user as the client
    states it, for all clients share one token; FROM is the address that the request came from.
    """
    page: ActionPage = api.get("/audit", limit=limit, before=before)
    if as_json:
        emit(page)
        return
    if not page["actions"]:
        note("nobody asked for anything yet")
        return
    now = time.time()
    show(COLUMNS, [_row(action, now) for action in page["actions"]])
    if page["more"]:
        note(f"older ones: tuneyard audit --before {page['actions'][-1]['id']}")


def _row(action: ActionShape, now: float) -> Row:
    return [
        Cell(words.ago(action["ts"], now), "dim"),
        *(action["by"] or "-", action["address"] or "-", action["subject"]),
        *(action["kind"], action["text"]),
    ]
