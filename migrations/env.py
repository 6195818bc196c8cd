"""Alembic runs this for every command; migrations/run.py says on which connection, and beside which metadata."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy.types import TypeDecorator


def _rendered(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """A migration outlives the types of the store: what it writes down is the column's own type."""
    return f"sa.{item.impl!r}" if kind == "type" and isinstance(item, TypeDecorator) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes["metadata"],
    render_item=_rendered,
    # SQLite can't alter a column: Alembic copies the table instead.
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
