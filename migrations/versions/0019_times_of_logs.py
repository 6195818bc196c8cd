"""Pieces of logs know when they were stored, and events of a host are found by it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_OF_A_HOST = sa.text("host_id IS NOT NULL")


def upgrade() -> None:
    op.add_column("log_chunks", sa.Column("ts", sa.Double()))
    op.create_index(
        "ix_events_host_id_id",
        "events",
        ["host_id", "id"],
        sqlite_where=_OF_A_HOST,
        postgresql_where=_OF_A_HOST,
    )


def downgrade() -> None:
    op.drop_index("ix_events_host_id_id", "events")
    op.drop_column("log_chunks", "ts")
