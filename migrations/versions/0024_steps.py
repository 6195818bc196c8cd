"""Jobs that are steps: what follows another job's training."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_A_STEP = sa.text("step_of IS NOT NULL")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("step_of", _KEY))
    op.create_index("ix_jobs_step_of", "jobs", ["step_of"], sqlite_where=_A_STEP, postgresql_where=_A_STEP)


def downgrade() -> None:
    op.drop_index("ix_jobs_step_of", table_name="jobs")
    op.drop_column("jobs", "step_of")
