"""Attempts that a full disk ended, what attempts resumed from and left; jobs that go on from another's checkpoint."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.checks import change_values

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CONTINUES = sa.text("continues IS NOT NULL")
OLD = (
    *("succeeded", "failed", "oom", "cancelled", "timeout", "preempted", "lost", "not_started"),
    *("host_fault", "diverged"),
)
NEW = (*OLD, "storage")


def upgrade() -> None:
    op.add_column("attempts", sa.Column("resumed", sa.Text()))
    op.add_column("attempts", sa.Column("checkpoints", sa.Text()))
    op.add_column("jobs", sa.Column("continues", KEY))
    op.create_index(
        "ix_jobs_continues", "jobs", ["continues"], sqlite_where=CONTINUES, postgresql_where=CONTINUES
    )
    change_values("attempts", "outcome", "ck_attempts_outcome", OLD, NEW)


def downgrade() -> None:
    op.execute("UPDATE attempts SET outcome = 'lost' WHERE outcome = 'storage'")
    op.execute("UPDATE jobs SET reason_code = 'backoff' WHERE reason_code = 'storage'")
    change_values("attempts", "outcome", "ck_attempts_outcome", NEW, OLD)
    op.drop_index("ix_jobs_continues", table_name="jobs")
    op.drop_column("jobs", "continues")
    op.drop_column("attempts", "checkpoints")
    op.drop_column("attempts", "resumed")
