"""Hosts that can't run a trainer, and losses that are not finite; attempts may end for either."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BEFORE = (
    "outcome IN ('succeeded', 'failed', 'oom', 'cancelled', 'timeout', 'preempted', 'lost', 'not_started')"
)
AFTER = BEFORE.removesuffix(")") + ", 'host_fault', 'diverged')"


def _new() -> list[tuple[str, sa.Column[Any]]]:
    """Tables, and columns for them that are in no table yet."""
    return [
        ("hosts", sa.Column("fault", sa.Text())),
        ("hosts", sa.Column("fault_at", sa.Double())),
        ("hosts", sa.Column("fault_times", sa.Integer(), nullable=False, server_default="0")),
        ("progress", sa.Column("loss_text", sa.Text())),
        ("progress", sa.Column("skipped", sa.Integer(), nullable=False, server_default="0")),
    ]


def upgrade() -> None:
    for table, column in _new():
        op.add_column(table, column)
    _check_outcomes(BEFORE, AFTER)


def downgrade() -> None:
    op.execute("UPDATE attempts SET outcome = 'not_started' WHERE outcome = 'host_fault'")
    op.execute("UPDATE attempts SET outcome = 'failed' WHERE outcome = 'diverged'")
    op.execute("UPDATE jobs SET reason_code = 'failed' WHERE reason_code = 'diverged'")
    _check_outcomes(AFTER, BEFORE)
    for table, column in reversed(_new()):
        op.drop_column(table, column.name)


def _check_outcomes(old: str, new: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint(op.f("ck_attempts_outcome"), "attempts", type_="check")
        op.create_check_constraint(op.f("ck_attempts_outcome"), "attempts", new)
        return
    # SQLite can't alter a check, and a copy of the table would end what refers to it. Its own way to change one
    # (sqlite.org/lang_altertable.html, section 7): the text of the table, then another schema version.
    version = op.get_bind().exec_driver_sql("PRAGMA schema_version").scalar_one()
    op.execute("PRAGMA writable_schema = ON")
    changed = op.get_bind().execute(
        sa.text(
            "UPDATE sqlite_master SET sql = replace(sql, :old, :new) WHERE name = 'attempts' AND instr(sql, :old)"
        ),
        {"old": old, "new": new},
    )
    assert changed.rowcount == 1
    op.execute(f"PRAGMA schema_version = {version + 1}")
    op.execute("PRAGMA writable_schema = OFF")
