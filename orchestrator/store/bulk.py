"""Inserts of many rows, handed to the driver as they are: SQLAlchemy's share would be over half of the cost.

SQLite takes them one by one in C (executemany). PostgreSQL gets one array a column, in one statement whose
text is the same whatever the number of rows: a fraction of what psycopg's executemany costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

_ARRAY = {"BIGINT": "int8", "INTEGER": "int4", "DOUBLE": "float8", "BOOLEAN": "bool"}


class BulkInsert:
    """INSERT of these columns of a table. Rows are tuples in their order, JSON and text as stored."""

    def __init__(self, table: sa.Table, columns: Sequence[str], *, ignore_known: bool = False) -> None:
        """ignore_known: a row whose key is there already stays as it is."""
        names = ", ".join(f'"{name}"' for name in columns)
        marks = ", ".join("?" * len(columns))
        arrays = ", ".join(f"%s::{_ARRAY.get(_kind(table.c[name]), 'text')}[]" for name in columns)
        verb, end = ("INSERT OR IGNORE", " ON CONFLICT DO NOTHING") if ignore_known else ("INSERT", "")
        self._sqlite = f"{verb} INTO {table.name} ({names}) VALUES ({marks})"
        self._postgres = f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({arrays}){end}"

    def __call__(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Inserts the rows."""
        if not rows:
            return
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(self._sqlite, rows[0] if len(rows) == 1 else list(rows))
        else:
            columns = tuple(list(column) for column in zip(*rows, strict=True))
            connection.exec_driver_sql(self._postgres, columns)


def next_ids(connection: sa.Connection, table: sa.Table, count: int) -> range | list[int]:
    """Ids for the next `count` rows of a table, ascending; for the write transaction that inserts them."""
    if connection.dialect.name == "sqlite":  # which has one writer: nobody comes between
        last = connection.exec_driver_sql(f"SELECT max(id) FROM {table.name}").scalar() or 0
        return range(last + 1, last + 1 + count)
    query = "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)"
    return sorted(connection.exec_driver_sql(query, (table.name, count)).scalars())


def _kind(column: sa.Column[Any]) -> str:
    return str(column.type)
