"""Attempts that ended because their host was stopped."""

from __future__ import annotations

from alembic import op

from migrations.checks import change_values

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

OLD = (
    *("succeeded", "failed", "oom", "cancelled", "timeout", "preempted", "lost", "not_started"),
    *("host_fault", "diverged", "storage"),
)
NEW = (*OLD, "host_stopped")


def upgrade() -> None:
    change_values("attempts", "outcome", "ck_attempts_outcome", OLD, NEW)


def downgrade() -> None:
    op.execute("UPDATE attempts SET outcome = 'preempted' WHERE outcome = 'host_stopped'")
    change_values("attempts", "outcome", "ck_attempts_outcome", NEW, OLD)
