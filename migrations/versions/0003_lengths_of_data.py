"""How long the sequences of jobs' data are, as hosts counted them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "data_lengths",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("lengths", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("host_id", KEY),
        sa.Column("requested_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double()),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_data_lengths_host_id"),
        sa.PrimaryKeyConstraint("key", name="pk_data_lengths"),
    )


def downgrade() -> None:
    op.drop_table("data_lengths")
