"""How much room hosts have on their disks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("hosts", sa.Column("disks", sa.Text()))


def downgrade() -> None:
    op.drop_column("hosts", "disks")
