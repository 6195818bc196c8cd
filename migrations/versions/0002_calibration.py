"""What calibration reads: the groups of an observation, and what its projection stood on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COLUMNS = (
    ("family", sa.Text),
    ("quantisation", sa.Text),
    ("card_bytes", sa.BigInteger),
    ("phase", sa.Text),
    ("sequence_length", sa.Integer),
    ("confidence", sa.Double),
    ("margin_group", sa.Text),
)


def upgrade() -> None:
    op.add_column("attempts", sa.Column("basis", sa.Text()))
    for name, kind in COLUMNS:
        op.add_column("observations", sa.Column(name, kind()))
    op.create_index("ix_observations_ts", "observations", ["ts"])
    # What the older rows say of themselves, so that they count from the first plan on.
    op.execute("UPDATE observations SET family = architecture")
    op.execute("UPDATE observations SET quantisation = CASE method WHEN 'qlora' THEN 'nf4' ELSE 'none' END")
    op.execute(
        "UPDATE observations SET card_bytes = (SELECT gpus.memory_bytes FROM leases JOIN gpus "
        "ON gpus.id = leases.gpu_id WHERE leases.attempt_id = observations.attempt_id AND leases.rank = 0)"
    )


def downgrade() -> None:
    op.drop_index("ix_observations_ts", table_name="observations")
    for name, _ in reversed(COLUMNS):
        op.drop_column("observations", name)
    op.drop_column("attempts", "basis")
