"""Events say who asked for them, and from where; queued jobs are held, and their specs change."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ASKED_FOR = sa.text("actor IS NOT NULL")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("held_at", sa.Double()))
    op.add_column("jobs", sa.Column("held_by", sa.Text()))
    op.add_column("jobs", sa.Column("revision", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("events", sa.Column("actor", sa.Text()))
    op.add_column("events", sa.Column("address", sa.Text()))
    op.create_index("ix_events_asked", "events", ["id"], sqlite_where=ASKED_FOR, postgresql_where=ASKED_FOR)


def downgrade() -> None:
    op.drop_index("ix_events_asked", table_name="events")
    for name in ("address", "actor"):
        op.drop_column("events", name)
    for name in ("revision", "held_by", "held_at"):
        op.drop_column("jobs", name)
