"""tuneyard secret: what trainers may use and nobody may read."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from jobs.errors import UsageError
from orchestrator.cli.groups import Verbs
from orchestrator.cli.output import client_verb, emit
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import Column, show
from orchestrator.cli.render.words import clock
from orchestrator.client.http import Api

if TYPE_CHECKING:
    from orchestrator.schemas import SecretPage

COLUMNS = (Column("SECRET"), Column("SET"), Column("BY"))
_PROJECT = click.option(
    "--project", default="default", metavar="NAME", help="Whose it is; the project default when left out."
)


@click.group("secret", cls=Verbs)
def secret_verb() -> None:
    """Set what trainers may use and nobody may read.

    Such as the key of a tracker. A job names the secrets that it takes (`secrets: [WANDB_API_KEY]`); its trainer gets
    them as environment variables. They are stored encrypted, and shown to nobody.
    """


@secret_verb.command("set")
@click.argument("name")
@_PROJECT
@client_verb
def set_secret(api: Api, as_json: bool, name: str, project: str) -> None:
    """Set a secret, in place of one of that name. Its value is asked for, or read from standard input."""
    if sys.stdin.isatty():
        value = click.prompt(f"{name} (not shown)", hide_input=True, err=True)
    else:
        value = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not value:
        raise UsageError("the value is empty; give it on standard input: tuneyard secret set NAME < FILE")
    _tell(api.put(_path(project, name), {"value": value}), as_json)


@secret_verb.command("list")
@_PROJECT
@client_verb
def list_secrets(api: Api, as_json: bool, project: str) -> None:
    """List the names of a project's secrets."""
    _tell(api.get(_path(project)), as_json)


@secret_verb.command("rm")
@click.argument("name")
@_PROJECT
@client_verb
def remove_secret(api: Api, as_json: bool, name: str, project: str) -> None:
    """Remove a secret. Jobs that name it and have not begun can't begin without."""
    _tell(api.delete(_path(project, name)), as_json)


def _path(project: str, name: str | None = None) -> str:
    path = f"/projects/{quote(project, safe='')}/secrets"
    return path if name is None else f"{path}/{quote(name, safe='')}"


def _tell(page: SecretPage, as_json: bool) -> None:
    if as_json:
        emit(page)
    elif page["secrets"]:
        show(
            COLUMNS,
            [[one["name"], clock(one["set_at"], time.time()), one["set_by"]] for one in page["secrets"]],
        )
    else:
        note("this project has no secrets; `tuneyard secret set NAME` makes one")
