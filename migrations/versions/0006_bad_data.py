"""Data that a host counted may be at fault, or missing there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("bad_input", "missing"):
        op.add_column("data_lengths", sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    for name in ("missing", "bad_input"):
        op.drop_column("data_lengths", name)
