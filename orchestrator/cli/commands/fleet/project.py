"""tuneyard project: whose share of the fleet is how large."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from jobs.errors import UsageError
from orchestrator.cli.groups import Verbs
from orchestrator.cli.output import client_verb, emit
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import Cell, Column, Row, show
from orchestrator.client.http import Api

if TYPE_CHECKING:
    from orchestrator.schemas import ProjectPage, ProjectShape

COLUMNS = (
    Column("PROJECT"),
    Column("GUARANTEE", right=True),
    Column("WEIGHT", right=True),
    Column("BORROWS"),
    Column("GPUS", right=True, keep=5),
    Column("QUEUED", right=True, keep=4),
)


@click.group("project", cls=Verbs)
def project_verb() -> None:
    """Set what projects may count on of the fleet.

    A job says whose it is by `project`. Projects share by weight what they use; a guarantee is a number of GPUs that
    a project has whenever it wants them, and that others may borrow while it does not.
    """


@project_verb.command("list")
@client_verb
def list_projects(api: Api, as_json: bool) -> None:
    """List projects with terms of their own, or with jobs that are queued or running."""
    _tell(api.get("/projects"), as_json)


@project_verb.command("set")
@click.argument("name")
@click.option(
    "--guarantee", type=click.IntRange(0), metavar="GPUS", help="GPUs that are its own when it wants them."
)
@click.option("--no-guarantee", is_flag=True, help="Take its guarantee away: it has only its share.")
@click.option(
    "--weight", type=click.FloatRange(0, min_open=True), metavar="X",
    help="Weight of its share; 1 for a new project.",
)  # fmt: skip
@click.option(
    "--borrow/--no-borrow", "borrows", default=None, help="Whether it may use what others leave idle."
)
@client_verb
def set_project(
    api: Api,
    as_json: bool,
    name: str,
    guarantee: int | None,
    no_guarantee: bool,
    weight: float | None,
    borrows: bool | None,
) -> None:
    """Change the terms of a project, or make it. What is not named stays as it is."""
    if no_guarantee and guarantee is not None:
        raise UsageError("--guarantee and --no-guarantee stand together; give one of the two")
    given = {"guarantee": guarantee, "weight": weight, "borrows": borrows}
    terms: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if no_guarantee:
        terms["guarantee"] = None
    if not terms:
        raise UsageError(
            "nothing to set; give --guarantee, --no-guarantee, --weight, --borrow or --no-borrow"
        )
    _tell(api.put(f"/projects/{quote(name, safe='')}", terms), as_json)


@project_verb.command("remove")
@click.argument("name")
@client_verb
def remove_project(api: Api, as_json: bool, name: str) -> None:
    """Take a project's terms away; its jobs go on without."""
    _tell(api.delete(f"/projects/{quote(name, safe='')}"), as_json)


def _tell(page: ProjectPage, as_json: bool) -> None:
    if as_json:
        emit(page)
        return
    if page["projects"]:
        show(COLUMNS, [_row(project) for project in page["projects"]])
    else:
        note("no project has terms of its own, or jobs; `tuneyard project set NAME --weight 2` makes one")
    for warning in page["warnings"]:
        note(f"warning: {warning}")


def _row(project: ProjectShape) -> Row:
    guarantee = project["guarantee"]
    return [
        project["name"],
        Cell("-", "dim") if guarantee is None else str(guarantee),
        f"{project['weight']:g}",
        "yes" if project["borrows"] else "no",
        str(project["gpus"]),
        str(project["queued"]),
    ]
