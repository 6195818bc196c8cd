"""The table of secrets of projects: sealed by orchestrator/vault.py, so that no backup holds what they say."""

from __future__ import annotations

import sqlalchemy as sa

from orchestrator.store.schema.column_types import Words
from orchestrator.store.schema.metadata import metadata

project_secrets = sa.Table(
    "project_secrets",
    metadata,
    sa.Column("project", Words, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),  # of the environment variable
    sa.Column("key_id", sa.Text, nullable=False),  # of the key that it was sealed with
    sa.Column("box", sa.Text, nullable=False),  # base64
    sa.Column("set_at", sa.Double, nullable=False),
    sa.Column("set_by", Words, nullable=False),
)
