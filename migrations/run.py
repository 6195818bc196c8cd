"""Runs the migrations on an engine, from any folder.

A new one: change orchestrator/store/schema/tables.py, run `python -m migrations.run "what changes"`, and read what it
wrote.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from orchestrator.store.schema.tables import metadata

HERE = Path(__file__).parent


def config(connection: sa.Connection | None = None) -> Config:
    """Alembic's settings, with the connection that env.py uses."""
    made = Config()
    made.set_main_option("script_location", str(HERE).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = connection
    return made


def migrate(engine: sa.Engine, revision: str = "head") -> None:
    """Upgrades to revision, in one transaction."""
    with engine.execution_options(writes=True).begin() as connection:
        command.upgrade(config(connection), revision)


def downgrade(engine: sa.Engine, revision: str) -> None:
    """Goes back to revision ("base": nothing is left), in one transaction."""
    with engine.execution_options(writes=True).begin() as connection:
        command.downgrade(config(connection), revision)


def head() -> str:
    """The newest revision."""
    return ScriptDirectory.from_config(config()).get_current_head() or ""


def differences(connection: sa.Connection) -> list[Any]:
    """What the database lacks, or has too much of, beside orchestrator/store/schema/tables.py."""
    return list(
        compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)
    )


def _write(message: str) -> None:
    """Writes the migration from the newest revision to what tables.py says now."""
    with tempfile.TemporaryDirectory() as folder:
        engine = sa.create_engine(f"sqlite:///{folder}/new.db")
        migrate(engine)
        with engine.begin() as connection:
            number = f"{int(head() or 0) + 1:04d}"
            command.revision(config(connection), message, autogenerate=True, rev_id=number)


if __name__ == "__main__":
    _write(" ".join(sys.argv[1:]))
