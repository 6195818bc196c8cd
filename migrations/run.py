"""Runs the migrations on an engine, from any folder."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

HERE = Path(__file__).parent


def config(connection: sa.Connection | None = None, metadata: sa.MetaData | None = None) -> Config:
    """Alembic's settings, with the connection and the metadata that env.py uses."""
    made = Config()
    made.set_main_option("script_location", str(HERE).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = connection
    made.attributes["metadata"] = metadata
    return made


def migrate(engine: sa.Engine, metadata: sa.MetaData, revision: str = "head") -> None:
    """Upgrades to revision, in one transaction. metadata: of the store; its naming convention names constraints."""
    with engine.execution_options(writes=True).begin() as connection:
        command.upgrade(config(connection, metadata), revision)


def downgrade(engine: sa.Engine, metadata: sa.MetaData, revision: str) -> None:
    """Goes back to revision ("base": nothing is left), in one transaction."""
    with engine.execution_options(writes=True).begin() as connection:
        command.downgrade(config(connection, metadata), revision)


def head() -> str:
    """The newest revision."""
    return ScriptDirectory.from_config(config()).get_current_head() or ""


def differences(connection: sa.Connection, metadata: sa.MetaData) -> list[Any]:
    """What the database lacks, or has too much of, beside these tables."""
    return list(
        compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)
    )


def write(message: str, metadata: sa.MetaData) -> None:
    """Writes the migration from the newest revision to these tables; read what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        engine = sa.create_engine(f"sqlite:///{folder}/new.db")
        migrate(engine, metadata)
        with engine.begin() as connection:
            number = f"{int(head() or 0) + 1:04d}"
            command.revision(config(connection, metadata), message, autogenerate=True, rev_id=number)
