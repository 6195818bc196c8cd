"""Attempts that were asked to stop say for which job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STOPPED_FOR = sa.text("stop_for IS NOT NULL")


def upgrade() -> None:
    op.add_column("attempts", sa.Column("stop_for", KEY))
    op.create_index(
        "ix_attempts_stop_for",
        "attempts",
        ["ended_at"],
        sqlite_where=STOPPED_FOR,
        postgresql_where=STOPPED_FOR,
    )


def downgrade() -> None:
    op.drop_index("ix_attempts_stop_for", table_name="attempts")
    op.drop_column("attempts", "stop_for")
