"""Whether segments of torch's CUDA allocator can expand on a card, and did for an attempt that was measured."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("gpus", sa.Column("expandable", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("observations", sa.Column("expandable", sa.Boolean()))


def downgrade() -> None:
    op.drop_column("observations", "expandable")
    op.drop_column("gpus", "expandable")
