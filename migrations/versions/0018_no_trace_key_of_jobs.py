"""Jobs keep no key of their memory profile: each attempt has its own, among what its projection stood on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("jobs", "trace_key")


def downgrade() -> None:
    op.add_column("jobs", sa.Column("trace_key", sa.Text()))
