"""Alembic runs this for every command; migrations/run.py says on which connection."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context

from orchestrator.store.schema.column_types import Json, Words
from orchestrator.store.schema.tables import metadata


def _rendered(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """A migration outlives tables.py: what it writes down is the column's own type."""
    return "sa.Text()" if kind == "type" and isinstance(item, (Json, Words)) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_item=_rendered,
    # SQLite can't alter a column: Alembic copies the table instead.
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
