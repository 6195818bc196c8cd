"""tuneyard db: the job database."""

from __future__ import annotations

import time
from pathlib import Path

import click

from jobs.errors import UsageError
from orchestrator.cli.groups import Verbs
from orchestrator.cli.output import FAILED, OK, emit, json_option
from orchestrator.client.settings import home

database_option = click.option(
    "--database",
    metavar="URL",
    help="sqlite:///PATH or postgresql://USER@HOST/NAME; TUNEYARD_DATABASE, or this machine's own.",
)


def database_url(given: str | None) -> str:
    """The database's URL, from the flag, the environment or the home. Raises UsageError."""
    from orchestrator.config import load  # here: only these verbs need the server's settings

    return load(home(), database=given).database


@click.group("db", cls=Verbs)
def db_verb() -> None:
    """Upgrade, check, back up and restore the job database."""


@db_verb.command("upgrade")
@database_option
@json_option
def upgrade_verb(database: str | None, as_json: bool) -> None:
    """Bring the database to this version of tuneyard; make it where there is none."""
    from orchestrator.store import upgrade  # here: sqlalchemy takes 0.4 s to import

    revision = upgrade(database_url(database))
    if as_json:
        emit({"revision": revision})
    else:
        click.echo(f"the database is at revision {revision}")


@db_verb.command("check")
@database_option
@json_option
def check_verb(database: str | None, as_json: bool) -> int:
    """Check the database's revision and what must always hold of its rows.

    The exit code is 1 when something is wrong.
    """
    from orchestrator.store import check  # here: sqlalchemy takes 0.4 s to import

    report = check(database_url(database))
    current = report.revision == report.head
    if as_json:
        emit({"revision": report.revision, "head": report.head, "faults": report.faults})
    else:
        for fault in report.faults:
            click.echo(f"fault: {fault}")
        if current:
            click.echo(f"revision {report.revision}, the one that this version wants")
        else:
            click.echo(
                f"revision {report.revision or 'none'}; this version wants {report.head}: "
                "run `tuneyard db upgrade`"
            )
        if current and not report.faults:
            click.echo("no faults")
    return OK if current and not report.faults else FAILED


@db_verb.command("backup")
@click.argument("path", type=click.Path(path_type=Path), required=False)
@database_option
@json_option
def backup_verb(path: Path | None, database: str | None, as_json: bool) -> None:
    """Copy the database to PATH while the server runs.

    PATH is by default a dated file in the current folder.
    """
    from orchestrator.store import backup  # here: sqlalchemy takes 0.4 s to import

    url = database_url(database)
    if path is None:
        suffix = "db" if url.startswith("sqlite") else "dump"
        path = Path(time.strftime(f"tuneyard-%Y%m%d-%H%M%S.{suffix}"))
    if path.exists():
        raise UsageError(f"{path} is there already; name another file")
    backup(url, path)
    written = path.stat().st_size
    if as_json:
        emit({"path": str(path), "bytes": written})
    else:
        click.echo(f"wrote {path}: {written:,} bytes")


@db_verb.command("restore")
@click.argument("path", type=click.Path(path_type=Path))
@database_option
@json_option
def restore_verb(path: Path, database: str | None, as_json: bool) -> None:
    """Put a SQLite backup in place, while no server runs.

    The database that was there stays beside it. For PostgreSQL use pg_restore.
    """
    from orchestrator.store import restore  # here: sqlalchemy takes 0.4 s to import

    kept = restore(database_url(database), path)
    if as_json:
        emit({"kept": None if kept is None else str(kept)})
    else:
        click.echo(f"{path} is in place; ids that it does not know are given out again, and hosts join again")
        if kept is not None:
            click.echo(f"the database that was there is {kept}")
