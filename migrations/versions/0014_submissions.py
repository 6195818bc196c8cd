"""Keys of submissions, so that who has to ask again makes no second one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "submissions",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Double(), nullable=False),
        sa.Column("jobs", sa.Text(), nullable=False),
        sa.Column("values", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_submissions"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_submissions_made_at", "submissions", ["made_at"])


def downgrade() -> None:
    op.drop_index("ix_submissions_made_at", table_name="submissions")
    op.drop_table("submissions")
