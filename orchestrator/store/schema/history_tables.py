"""The tables of what was measured, in steps and thinned. Times are Unix seconds."""

from __future__ import annotations

import sqlalchemy as sa

from orchestrator.store.schema.metadata import Key, metadata

# Readings of cards in steps of a minute and a quarter of an hour (orchestrator.store.history), kept longer than
# samples. Whole numbers in the units of orchestrator.store.history.fields: SQLite keeps those in a few bytes.
history = sa.Table(
    "history",
    metadata,
    sa.Column("scope", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("subject_id", Key, primary_key=True, autoincrement=False),  # of a card or a host; 0: the fleet
    sa.Column("width_s", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("ts", sa.BigInteger, primary_key=True, autoincrement=False),  # when the step begins
    sa.Column("n", sa.Integer, nullable=False),  # samples
    sa.Column("until_ms", sa.Integer, nullable=False),  # of the newest of them, from ts
    sa.Column("cards", sa.Integer, nullable=False),
    sa.Column("faults", sa.Integer, nullable=False),  # samples with a fault
    sa.Column("energy_j", sa.Double),  # drawn in this step
    *(
        sa.Column(f"{name}_{stat}", sa.BigInteger if name == "memory_used_bytes" else sa.Integer)
        for name in (
            *("memory_used_bytes", "utilization", "power_w"),
            *("temperature_c", "sm_clock_mhz", "memory_clock_mhz"),
        )
        for stat in ("mean", "min", "max")
    ),
    sqlite_with_rowid=False,
)

# Minutes whose samples came late: they are made again.
history_late = sa.Table(
    "history_late",
    metadata,
    sa.Column("gpu_id", Key, primary_key=True, autoincrement=False),
    sa.Column("ts", sa.BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

# How far what makes and removes history has come: Unix seconds, by the names in orchestrator.store.history.rollup.
history_state = sa.Table(
    "history_state",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("ts", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Curves of attempts that ended, thinned, once the rows that they were drawn from go. data: JSON, deflated.
curves = sa.Table(
    "curves",
    metadata,
    sa.Column("attempt_id", Key, sa.ForeignKey("attempts.id"), primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
