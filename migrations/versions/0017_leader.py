"""Which of the servers of a database schedules: one row, with an epoch that rises with each that takes over."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "leader",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("beat", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("holder", sa.Text()),
        sa.Column("place", sa.Text(), nullable=False, server_default=""),
        sa.Column("url", sa.Text(), nullable=False, server_default=""),
        sa.Column("host", sa.Text(), nullable=False, server_default=""),
        sa.Column("since", sa.Double(), nullable=False, server_default="0"),
        sa.Column("ray_address", sa.Text()),
        sa.CheckConstraint("id = 1", name="one"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute("INSERT INTO leader (id) VALUES (1)")


def downgrade() -> None:
    op.drop_table("leader")
