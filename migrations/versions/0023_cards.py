"""What happened to cards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OF_A_CARD = sa.text("gpu_id IS NOT NULL")


def upgrade() -> None:
    op.add_column("gpus", sa.Column("signs", sa.Text()))
    op.add_column("events", sa.Column("gpu_id", _KEY))
    op.create_index(
        "ix_events_gpu_id_id",
        "events",
        ["gpu_id", "id"],
        sqlite_where=_OF_A_CARD,
        postgresql_where=_OF_A_CARD,
    )


def downgrade() -> None:
    op.drop_index("ix_events_gpu_id_id", "events")
    op.drop_column("events", "gpu_id")
    op.drop_column("gpus", "signs")
