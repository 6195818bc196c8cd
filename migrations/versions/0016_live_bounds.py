"""What live bytes alone were to stay under, beside the bound of all device bytes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("observations", sa.Column("projected_live_upper_bytes", sa.BigInteger()))


def downgrade() -> None:
    op.drop_column("observations", "projected_live_upper_bytes")
