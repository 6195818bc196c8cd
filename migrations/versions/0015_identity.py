"""Jobs and attempts have a uuid each, and the database an epoch: ids come again when it goes back to a backup."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

from jobs.identity import derived_uuid

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

NOW_MS = {
    "sqlite": "CAST(strftime('%s', 'now') AS INTEGER) * 1000",
    "postgresql": "CAST(extract(epoch FROM now()) * 1000 AS bigint)",
}


def upgrade() -> None:
    op.add_column("yard", sa.Column("epoch", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("yard", sa.Column("place", sa.Text(), nullable=False, server_default=""))
    op.add_column("yard", sa.Column("restores", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("uuid", sa.Text(), nullable=False, server_default=""))
    op.add_column("attempts", sa.Column("uuid", sa.Text(), nullable=False, server_default=""))
    op.add_column("hosts", sa.Column("aside", sa.Text()))
    connection = op.get_bind()
    op.execute(f"UPDATE yard SET epoch = {NOW_MS[connection.dialect.name]}")
    yard = connection.execute(sa.text("SELECT uuid FROM yard")).scalar_one()
    # From what no other row has: the same backup, brought to this version twice, has the same uuids.
    _name(connection, "jobs", "id, submitted_at", lambda row: derived_uuid(yard, f"job {row[0]} {row[1]!r}"))
    _name(
        connection,
        "attempts",
        "id, job_id, opened_at",
        lambda row: derived_uuid(yard, f"attempt {row[0]} of {row[1]} {row[2]!r}"),
    )


def _name(connection: sa.Connection, table: str, columns: str, name: Callable[[sa.Row[Any]], str]) -> None:
    rows = connection.execute(sa.text(f"SELECT {columns} FROM {table}")).all()
    update = sa.text(f"UPDATE {table} SET uuid = :uuid WHERE id = :id")
    if rows:
        connection.execute(update, [{"id": row[0], "uuid": name(row)} for row in rows])


def downgrade() -> None:
    op.drop_column("hosts", "aside")
    op.drop_column("attempts", "uuid")
    op.drop_column("jobs", "uuid")
    op.drop_column("yard", "restores")
    op.drop_column("yard", "place")
    op.drop_column("yard", "epoch")
