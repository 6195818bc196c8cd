"""Who is told of what, and the outbox: a notice is stored in the transaction of its event."""

from __future__ import annotations

import sqlalchemy as sa

from orchestrator.store.schema.column_types import Words
from orchestrator.store.schema.metadata import Key, metadata

notify_targets = sa.Table(
    "notify_targets",
    metadata,
    sa.Column("id", Key, primary_key=True),
    sa.Column("uid", sa.Text, nullable=False),  # what its box is bound to
    sa.Column("project", Words),  # NULL: of all projects, and of the fleet
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("kinds", sa.Text, nullable=False),  # of events, with commas around each
    sa.Column("host", Words, nullable=False),  # of its URL, for people
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("box", sa.Text, nullable=False),  # URL and signing key, sealed
    sqlite_autoincrement=True,
)

notices = sa.Table(
    "notices",
    metadata,
    sa.Column("id", Key, primary_key=True),
    sa.Column(
        "target_id", Key, sa.ForeignKey("notify_targets.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    sa.Column("ts", sa.Double, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("text", Words, nullable=False),
    sa.Column("job_id", Key),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("next_at", sa.Double, nullable=False),
    sa.Index("ix_notices_next_at", "next_at"),
    sqlite_autoincrement=True,
)
