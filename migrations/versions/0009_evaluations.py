"""Evaluation losses of attempts are kept, step by step."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "evaluations",
        sa.Column("attempt_id", KEY, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("ts", sa.Double, nullable=False),
        sa.Column("loss", sa.Double),
        sa.Column("loss_text", sa.Text()),
        sa.PrimaryKeyConstraint("attempt_id", "step", name="pk_evaluations"),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_evaluations_attempt_id"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("evaluations")
