"""Projects, groups and what jobs wait for; leases are found by when they ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IN_A_GROUP = sa.text("group_id IS NOT NULL")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("project", sa.Text(), nullable=False, server_default="default"))
    op.add_column("jobs", sa.Column("group_id", KEY))
    op.add_column("jobs", sa.Column("queued_at", sa.Double(), nullable=False, server_default="0"))
    # Queued at its submission, or again when its last attempt ended.
    op.execute(
        "UPDATE jobs SET queued_at = coalesce((SELECT max(attempts.ended_at) FROM attempts "
        "WHERE attempts.job_id = jobs.id AND jobs.state = 'queued'), submitted_at)"
    )
    op.create_index("ix_jobs_project_state_id", "jobs", ["project", "state", "id"])
    op.create_index(
        "ix_jobs_group_id", "jobs", ["group_id"], sqlite_where=IN_A_GROUP, postgresql_where=IN_A_GROUP
    )
    op.create_table(
        "job_links",
        sa.Column("job_id", KEY, nullable=False),
        sa.Column("after_id", KEY, nullable=False),
        sa.Column("on", sa.Text(), nullable=False),
        sa.CheckConstraint("\"on\" IN ('success', 'failure', 'any')", name=op.f("ck_job_links_on")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_links_job_id"),
        sa.ForeignKeyConstraint(["after_id"], ["jobs.id"], name="fk_job_links_after_id"),
        sa.PrimaryKeyConstraint("job_id", "after_id", name="pk_job_links"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_job_links_after_id", "job_links", ["after_id"])
    op.create_table(
        "projects",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("guarantee", sa.Integer()),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("borrows", sa.Boolean(), nullable=False),
        sa.CheckConstraint("guarantee >= 0", name=op.f("ck_projects_guarantee")),
        sa.CheckConstraint("weight > 0", name=op.f("ck_projects_weight")),
        sa.PrimaryKeyConstraint("name", name="pk_projects"),
    )
    op.create_index("ix_leases_released_at", "leases", ["released_at"])


def downgrade() -> None:
    op.drop_index("ix_leases_released_at", table_name="leases")
    op.drop_table("projects")
    op.drop_table("job_links")
    op.drop_index("ix_jobs_group_id", table_name="jobs")
    op.drop_index("ix_jobs_project_state_id", table_name="jobs")
    for name in ("queued_at", "group_id", "project"):
        op.drop_column("jobs", name)
