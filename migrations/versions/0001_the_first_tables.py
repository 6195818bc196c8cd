"""The first tables."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite numbers rows by itself only where the type is spelt INTEGER.
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    yard = op.create_table(
        "yard",
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("uuid", name="pk_yard"),
    )
    op.bulk_insert(yard, [{"uuid": uuid.uuid4().hex}])
    op.create_table(
        "hosts",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("info", sa.Text(), nullable=False),
        sa.Column("boot", sa.Text()),
        sa.Column("joined_at", sa.Double(), nullable=False),
        sa.Column("last_seen", sa.Double(), nullable=False),
        sa.Column("drained", sa.Boolean(), nullable=False),
        sa.Column("ray_ready", sa.Boolean(), nullable=False),
        sa.Column("running", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_hosts"),
        sa.UniqueConstraint("name", name="uq_hosts_name"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason_code", sa.Text(), nullable=False),
        sa.Column("reason_text", sa.Text(), nullable=False),
        sa.Column("reason_figures", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("trace_key", sa.Text()),
        sa.Column("submitted_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double()),
        sa.Column("ended_at", sa.Double()),
        sa.Column("cancel_requested_at", sa.Double()),
        sa.Column("not_before", sa.Double()),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_jobs_state")
        ),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_name_id", "jobs", ["name", "id"])
    op.create_index("ix_jobs_queue", "jobs", ["state", sa.literal_column("priority DESC"), "id"])
    op.create_index("ix_jobs_state_id", "jobs", ["state", "id"])
    op.create_table(
        "samples",
        sa.Column("gpu_id", KEY, autoincrement=False, nullable=False),
        sa.Column("ts", sa.Double(), nullable=False),
        sa.Column("attempt_id", KEY),
        sa.Column("memory_used_bytes", sa.BigInteger()),
        sa.Column("utilization", sa.Double()),
        sa.Column("power_w", sa.Double()),
        sa.Column("power_limit_w", sa.Double()),
        sa.Column("temperature_c", sa.Double()),
        sa.Column("sm_clock_mhz", sa.Double()),
        sa.Column("memory_clock_mhz", sa.Double()),
        sa.Column("energy_j", sa.Double()),
        sa.Column("throttle", sa.BigInteger()),
        sa.Column("ecc_corrected", sa.BigInteger()),
        sa.Column("ecc_uncorrected", sa.BigInteger()),
        sa.Column("process_memory", sa.Text()),
        sa.Column("fault", sa.Text()),
        sa.PrimaryKeyConstraint("gpu_id", "ts", name="pk_samples"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "attempts",
        sa.Column("id", KEY, nullable=False),
        sa.Column("job_id", KEY, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("host_id", KEY, nullable=False),
        sa.Column("rung", sa.Text(), nullable=False),
        sa.Column("projection", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("dispatched_at", sa.Double()),
        sa.Column("started_at", sa.Double()),
        sa.Column("started", sa.Text()),
        sa.Column("stop_requested_at", sa.Double()),
        sa.Column("stop_reason", sa.Text()),
        sa.Column("log_bytes", sa.BigInteger(), nullable=False),
        sa.Column("reported", sa.Text()),
        sa.Column("outcome", sa.Text()),
        sa.Column("message", sa.Text()),
        sa.Column("ended_at", sa.Double()),
        sa.Column("steps", sa.Integer()),
        sa.Column("last_checkpoint", sa.Text()),
        sa.Column("result", sa.Text()),
        sa.Column("measured", sa.Text()),
        sa.CheckConstraint(
            "outcome IN ('succeeded', 'failed', 'oom', 'cancelled', 'timeout', 'preempted', 'lost', "
            "'not_started')",
            name=op.f("ck_attempts_outcome"),
        ),
        sa.CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name=op.f("ck_attempts_ended")),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_attempts_host_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_attempts_job_id"),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sa.UniqueConstraint("job_id", "number", name="uq_attempts_job_id_number"),
    )
    op.create_index("ix_attempts_host_id_outcome", "attempts", ["host_id", "outcome"])
    op.create_index(
        "uq_attempts_open",
        "attempts",
        ["job_id"],
        unique=True,
        sqlite_where=sa.text("outcome IS NULL"),
        postgresql_where=sa.text("outcome IS NULL"),
    )
    op.create_table(
        "gpus",
        sa.Column("id", KEY, nullable=False),
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.Column("host_id", KEY, nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("fault", sa.Text()),
        sa.Column("present", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_gpus_host_id"),
        sa.PrimaryKeyConstraint("id", name="pk_gpus"),
        sa.UniqueConstraint("uuid", name="uq_gpus_uuid"),
    )
    op.create_index("ix_gpus_host_id", "gpus", ["host_id"])
    op.create_table(
        "profiles",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("bad_input", sa.Boolean(), nullable=False),
        sa.Column("host_id", KEY),
        sa.Column("requested_at", sa.Double(), nullable=False),
        sa.Column("assigned_at", sa.Double()),
        sa.Column("ended_at", sa.Double()),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_profiles_host_id"),
        sa.PrimaryKeyConstraint("key", name="pk_profiles"),
    )
    op.create_table(
        "events",
        sa.Column("id", KEY, nullable=False),
        sa.Column("ts", sa.Double(), nullable=False),
        sa.Column("job_id", KEY),
        sa.Column("attempt_id", KEY),
        sa.Column("host_id", KEY),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_events_attempt_id"),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_events_host_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_events_job_id"),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_job_id_id", "events", ["job_id", "id"])
    op.create_table(
        "leases",
        sa.Column("attempt_id", KEY, nullable=False),
        sa.Column("gpu_id", KEY, nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("exclusive", sa.Boolean(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("released_at", sa.Double()),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_leases_attempt_id"),
        sa.ForeignKeyConstraint(["gpu_id"], ["gpus.id"], name="fk_leases_gpu_id"),
        sa.PrimaryKeyConstraint("attempt_id", "gpu_id", name="pk_leases"),
    )
    op.create_index("ix_leases_gpu_id_released_at", "leases", ["gpu_id", "released_at"])
    op.create_index(
        "uq_leases_exclusive",
        "leases",
        ["gpu_id"],
        unique=True,
        sqlite_where=sa.text("exclusive AND released_at IS NULL"),
        postgresql_where=sa.text("exclusive AND released_at IS NULL"),
    )
    op.create_table(
        "log_chunks",
        sa.Column("attempt_id", KEY, nullable=False),
        sa.Column("start_byte", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_log_chunks_attempt_id"),
        sa.PrimaryKeyConstraint("attempt_id", "start_byte", name="pk_log_chunks"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "observations",
        sa.Column("attempt_id", KEY, autoincrement=False, nullable=False),
        sa.Column("ts", sa.Double(), nullable=False),
        sa.Column("trace_key", sa.Text()),
        sa.Column("architecture", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("card", sa.Text(), nullable=False),
        sa.Column("stack", sa.Text(), nullable=False),
        sa.Column("rung", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("projected_allocated_bytes", sa.BigInteger()),
        sa.Column("projected_reserved_bytes", sa.BigInteger()),
        sa.Column("projected_device_bytes", sa.BigInteger()),
        sa.Column("projected_upper_bytes", sa.BigInteger()),
        sa.Column("projected_step_s", sa.Double()),
        sa.Column("measured_allocated_bytes", sa.BigInteger()),
        sa.Column("measured_reserved_bytes", sa.BigInteger()),
        sa.Column("measured_device_bytes", sa.BigInteger()),
        sa.Column("measured_step_s", sa.Double()),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_observations_attempt_id"),
        sa.PrimaryKeyConstraint("attempt_id", name="pk_observations"),
    )
    op.create_index("ix_observations_card_method", "observations", ["card", "method"])
    op.create_table(
        "progress",
        sa.Column("attempt_id", KEY, nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("ts", sa.Double(), nullable=False),
        sa.Column("total_steps", sa.Integer(), nullable=False),
        sa.Column("loss", sa.Double()),
        sa.Column("learning_rate", sa.Double()),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("tokens_per_s", sa.Double()),
        sa.Column("step_s", sa.Double()),
        sa.Column("allocated_bytes", sa.BigInteger()),
        sa.Column("reserved_bytes", sa.BigInteger()),
        sa.Column("device_bytes", sa.BigInteger()),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_progress_attempt_id"),
        sa.PrimaryKeyConstraint("attempt_id", "step", name="pk_progress"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    tables = (
        "observations",
        "progress",
        "log_chunks",
        "samples",
        "profiles",
        "events",
        "leases",
        "attempts",
        "gpus",
        "hosts",
        "jobs",
        "yard",
    )
    for table in tables:
        op.drop_table(table)
