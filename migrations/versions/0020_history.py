"""History of cards in steps of a minute and a quarter of an hour; curves of jobs; the norm of gradients."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "history",
        sa.Column("scope", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("subject_id", _KEY, autoincrement=False, nullable=False),
        sa.Column("width_s", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("until_ms", sa.Integer(), nullable=False),
        sa.Column("cards", sa.Integer(), nullable=False),
        sa.Column("faults", sa.Integer(), nullable=False),
        sa.Column("energy_j", sa.Double()),
        *(sa.Column(f"memory_used_bytes_{stat}", sa.BigInteger()) for stat in ("mean", "min", "max")),
        *(
            sa.Column(f"{name}_{stat}", sa.Integer())
            for name in ("utilization", "power_w", "temperature_c", "sm_clock_mhz", "memory_clock_mhz")
            for stat in ("mean", "min", "max")
        ),
        sa.PrimaryKeyConstraint("scope", "subject_id", "width_s", "ts"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "history_late",
        sa.Column("gpu_id", _KEY, autoincrement=False, nullable=False),
        sa.Column("ts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("gpu_id", "ts"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "history_state",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "curves",
        sa.Column("attempt_id", _KEY, autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"]),
        sa.PrimaryKeyConstraint("attempt_id", "kind"),
        sqlite_with_rowid=False,
    )
    op.add_column("progress", sa.Column("grad_norm", sa.Double()))


def downgrade() -> None:
    op.drop_column("progress", "grad_norm")
    for table in ("curves", "history_state", "history_late", "history"):
        op.drop_table(table)
