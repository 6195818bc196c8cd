"""tuneyard events: what happened across jobs and hosts."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from jobs.errors import UsageError
from orchestrator.cli.output import client_verb, emit
from orchestrator.cli.render import words
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import Cell, Column, Row, Stream, show
from orchestrator.cli.times import past
from orchestrator.client.http import Api, Patience

if TYPE_CHECKING:
    from orchestrator.schemas import EventLine, EventPage

PAGE = 1000
POLL_S = 1.0
COLUMNS = (
    Column("WHEN", right=True),
    Column("BY", keep=7),
    Column("FROM", keep=3),
    Column("HOST", keep=5),
    Column("ON", keep=8),
    Column("EVENT", keep=6),
    Column("WHAT", wrap=True),
)
WIDEST = (
    "Wed 14:05:00",
    "-" * 12,
    "192.168.100.100",
    "-" * 12,
    "job 10000 (docs-lora)",
    "cancel_requested",
    "-",
)


def _named(_: click.Context, option: click.Parameter, given: str | None) -> str | None:
    if given is not None and not given.strip():
        raise UsageError(f"{option.opts[0]} is empty; write a name, or leave it out for all")
    return given


@click.command("events")
@click.option(
    "--since", callback=past, metavar="TIME", help="Only what happened since: 2h ago, or 2026-11-01."
)
@click.option("--job", callback=_named, metavar="JOB", help="Only of this job, by id or name.")
@click.option("--host", callback=_named, metavar="HOST", help="Only of this host and of what ran on it.")
@click.option("--card", callback=_named, metavar="CARD", help="Only of this card: HOST/INDEX, uuid or id.")
@click.option("--by", callback=_named, metavar="USER", help="Only what this user asked for.")
@click.option(
    "--kind", callback=_named, metavar="A,B", help="Only events of these kinds, such as failed,drained."
)
@click.option("--follow", "-f", "following", is_flag=True, help="Go on with what happens next.")
@click.option(
    "--limit", "-n", type=click.IntRange(1, PAGE), default=100, show_default=True, metavar="N",
    help="How many of the newest.",
)  # fmt: skip
@click.option(
    "--before", type=click.IntRange(0), metavar="ID", help="Events before this one, for older ones."
)
@client_verb
def events_verb(
    api: Api, as_json: bool, following: bool, limit: int, before: int | None, **wanted: Any
) -> None:
    """List what happened to jobs and hosts, and who asked for it.

    The newest are last. BY is the user as the client states it, for all clients share one token; FROM is the address
    that the request came from. With --follow, --json prints one line an event, and a server that restarts is waited
    for.
    """
    if following and before is not None:
        raise UsageError("--before asks for older events and --follow for later ones; give one of the two")
    newest = _newest(api) if following else 0
    page: EventPage = api.get("/events", limit=limit, before=before, **wanted)
    found = list(reversed(page["events"]))
    if following:
        _follow(api, as_json, found, newest, wanted)
        return
    if as_json:
        emit({**page, "events": found})
        return
    if not found:
        note("nothing happened that this asks for")
        return
    now = time.time()
    show(COLUMNS, [_row(event, words.ago(event["ts"], now)) for event in found])
    if page["more"]:
        note(f"older ones: --before {found[0]['id']}")


def _follow(api: Api, as_json: bool, found: list[EventLine], after: int, wanted: dict[str, Any]) -> None:
    """Until Ctrl-C. after: the newest event of all before these were asked for.

    What was told last is remembered by its id: nothing comes twice, and nothing is left out.
    """
    stream, patience = Stream(COLUMNS, WIDEST), Patience(note, limit_s=None)
    after = found[-1]["id"] if found else after
    if not as_json:
        stream.show([_row(event, _time(event["ts"])) for event in found])
    while True:
        for event in found if as_json else ():
            sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()
        time.sleep(POLL_S)
        found = []
        with patience.bear():
            found = api.get("/events", limit=PAGE, after=after, **wanted)["events"]
        if found:
            after = found[-1]["id"]
            if not as_json:
                stream.show([_row(event, _time(event["ts"])) for event in found])


def _newest(api: Api) -> int:
    """The id of the last event of all."""
    newest = api.get("/events", limit=1)["events"]
    return newest[0]["id"] if newest else 0


def _time(ts: float) -> str:
    return time.strftime("%a %H:%M:%S", time.localtime(ts))


def _row(event: EventLine, when: str) -> Row:
    return [
        Cell(when, "dim"),
        *(event["by"] or "", event["address"] or "", event["host"] or "", event["subject"]),
        Cell(event["kind"], words.STATE_STYLES.get(event["kind"], "")),
        event["text"],
    ]
