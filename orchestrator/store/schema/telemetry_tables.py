"""The tables of what arrives by the thousand: readings of cards, logs, lines of trainings. Times are Unix seconds."""

from __future__ import annotations

import sqlalchemy as sa

from orchestrator.store.schema.column_types import Json, Words
from orchestrator.store.schema.metadata import Key, metadata

# No foreign keys here: cards and attempts are never deleted, and PostgreSQL would look up both for each row.
samples = sa.Table(
    "samples",
    metadata,
    sa.Column("gpu_id", Key, primary_key=True, autoincrement=False),
    sa.Column("ts", sa.Double, primary_key=True),
    sa.Column("attempt_id", Key),
    sa.Column("memory_used_bytes", sa.BigInteger),
    sa.Column("utilization", sa.Double),
    sa.Column("power_w", sa.Double),
    sa.Column("power_limit_w", sa.Double),
    sa.Column("temperature_c", sa.Double),
    sa.Column("sm_clock_mhz", sa.Double),
    sa.Column("memory_clock_mhz", sa.Double),
    sa.Column("energy_j", sa.Double),
    sa.Column("throttle", sa.BigInteger),
    sa.Column("ecc_corrected", sa.BigInteger),
    sa.Column("ecc_uncorrected", sa.BigInteger),
    sa.Column("process_memory", Json),
    sa.Column("fault", Words),
    sqlite_with_rowid=False,
)

log_chunks = sa.Table(
    "log_chunks",
    metadata,
    sa.Column("attempt_id", Key, sa.ForeignKey("attempts.id"), primary_key=True),
    sa.Column("start_byte", sa.BigInteger, primary_key=True),
    sa.Column("text", Words, nullable=False),
    sa.Column("ts", sa.Double),  # when it was stored; NULL: by an older version
    sqlite_with_rowid=False,
)

progress = sa.Table(
    "progress",
    metadata,
    sa.Column("attempt_id", Key, sa.ForeignKey("attempts.id"), primary_key=True),
    sa.Column("step", sa.Integer, primary_key=True),
    sa.Column("ts", sa.Double, nullable=False),
    sa.Column("total_steps", sa.Integer, nullable=False),
    sa.Column("loss", sa.Double),
    sa.Column("learning_rate", sa.Double),
    sa.Column("tokens", sa.BigInteger, nullable=False),
    sa.Column("tokens_per_s", sa.Double),
    sa.Column("step_s", sa.Double),
    sa.Column("allocated_bytes", sa.BigInteger),
    sa.Column("reserved_bytes", sa.BigInteger),
    sa.Column("device_bytes", sa.BigInteger),
    sa.Column("loss_text", sa.Text),  # "nan", "inf" or "-inf", where the loss is not a number that JSON knows
    sa.Column(
        "skipped", sa.Integer, nullable=False, server_default="0"
    ),  # steps left out so far (training.on_nan)
    sa.Column("grad_norm", sa.Double),  # before clipping
    sqlite_with_rowid=False,
)

# The loss on the rows that are held out.
evaluations = sa.Table(
    "evaluations",
    metadata,
    sa.Column("attempt_id", Key, sa.ForeignKey("attempts.id"), primary_key=True),
    sa.Column("step", sa.Integer, primary_key=True),
    sa.Column("ts", sa.Double, nullable=False),
    sa.Column("loss", sa.Double),
    sa.Column("loss_text", sa.Text),  # as in progress
    sqlite_with_rowid=False,
)
