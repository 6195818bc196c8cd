"""tuneyard notify: who is told of what happens to jobs and hosts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from jobs.errors import UsageError
from orchestrator.cli.groups import Verbs
from orchestrator.cli.output import client_verb, emit
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import Column, show
from orchestrator.client.http import Api

if TYPE_CHECKING:
    from orchestrator.schemas import TargetPage

COLUMNS = (
    Column("ID", right=True),
    Column("KIND"),
    Column("HOST"),
    Column("PROJECT"),
    Column("ON"),
    Column("WAITING", right=True),
)


@click.group("notify", cls=Verbs)
def notify_verb() -> None:
    """Tell a web server, or somebody by e-mail, what happens to jobs, hosts and cards.

    When a job ends, waits for long, or runs out of memory and goes on with another plan; when a host or card is at
    fault.
    """


@notify_verb.command("add")
@click.option("--slack", is_flag=True, help="It takes what Slack's incoming webhooks take.")
@click.option("--email", metavar="ADDRESS", help="Somebody's mailbox, in place of a web server.")
@click.option("--project", metavar="NAME", help="Of this project alone; of all, and of hosts, when left out.")
@click.option(
    "--on", "kinds", multiple=True, metavar="KIND", help="Of these events alone. May be given again."
)
@client_verb
def add_target(
    api: Api, as_json: bool, slack: bool, email: str | None, project: str | None, kinds: tuple[str, ...]
) -> None:
    """Add a target. A URL, which often has a key in it, is read from standard input or asked for."""
    if email is not None and slack:
        raise UsageError("--email and --slack are two kinds of target; give one of them")
    if email is not None:
        given = {"url": f"mailto:{email}", "kind": "email", "project": project, "on": list(kinds)}
        _, made = api.post("/notify", given)
        emit({"id": made["id"]}) if as_json else note(f"target {made['id']}: {email} gets e-mail")
        return
    if sys.stdin.isatty():
        url: str = click.prompt("URL (not shown)", hide_input=True, err=True)
    else:
        url = sys.stdin.read()
    if not url.strip():
        raise UsageError("the URL is empty; give it on standard input, as `tuneyard notify add` reads it")
    kind = "slack" if slack else "webhook"
    _, made = api.post("/notify", {"url": url.strip(), "kind": kind, "project": project, "on": list(kinds)})
    if as_json:
        emit(made)
        return
    click.echo(made["key"])
    note(f"target {made['id']}: the key above signs what it gets; it is not shown again")


@notify_verb.command("list")
@client_verb
def list_targets(api: Api, as_json: bool) -> None:
    """List targets, and how many notices wait for each."""
    _tell(api.get("/notify"), as_json)


@notify_verb.command("rm")
@click.argument("target", type=click.IntRange(0))
@client_verb
def remove_target(api: Api, as_json: bool, target: int) -> None:
    """Remove a target, with what it was still to be told."""
    _tell(api.delete(f"/notify/{target}"), as_json)


@notify_verb.command("test")
@click.argument("target", type=click.IntRange(0))
@client_verb
def test_target(api: Api, as_json: bool, target: int) -> None:
    """Send a target a notice of kind test."""
    _tell(api.post(f"/notify/{target}/test", {})[1], as_json)


def _tell(page: TargetPage, as_json: bool) -> None:
    if as_json:
        emit(page)
    elif page["targets"]:
        show(
            COLUMNS,
            [
                [
                    *(str(one["id"]), one["kind"], one["host"], one["project"] or "all"),
                    *(",".join(one["on"]), str(one["waiting"])),
                ]
                for one in page["targets"]
            ],
        )
    else:
        note("nobody is told; `tuneyard notify add` adds a target")
