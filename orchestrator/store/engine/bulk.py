"""Inserts of many rows, handed to the driver as they are: SQLAlchemy's share would be over half of the cost.

SQLite gets hundreds of rows in one statement, from its own driver. Its driver lets go of the interpreter at each step
and has to wait for it again: row by row (executemany), other threads would come between any two rows. PostgreSQL gets
one array a column, in one statement whose text is the same whatever the number of rows: a fraction of what psycopg's
executemany costs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import sqlalchemy as sa

# Rows of a statement on SQLite. Few sizes: the driver keeps the statements that it has prepared, by their text.
_SIZES = (256, 64, 16, 4, 1)
_ARRAY = {"BIGINT": "int8", "INTEGER": "int4", "DOUBLE": "float8", "BOOLEAN": "bool"}


class BulkInsert:
    """INSERT of these columns of a table. Rows are tuples in their order, JSON and text as stored."""

    def __init__(
        self,
        table: sa.Table,
        columns: Sequence[str],
        *,
        ignore_known: bool = False,
        replace: Sequence[str] = (),
    ) -> None:
        """ignore_known: a row whose key is there already stays as it is; replace: by this key, it is replaced."""
        names = ", ".join(f'"{name}"' for name in columns)
        marks = ", ".join("?" * len(columns))
        arrays = ", ".join(f"%s::{_ARRAY.get(_kind(table.c[name]), 'text')}[]" for name in columns)
        end = " ON CONFLICT DO NOTHING" if ignore_known else ""
        if replace:
            others = ", ".join(f'"{name}" = excluded."{name}"' for name in columns if name not in replace)
            end = f" ON CONFLICT ({', '.join(replace)}) DO UPDATE SET {others}"
        self._sqlite = {
            size: f"INSERT INTO {table.name} ({names}) VALUES {', '.join([f'({marks})'] * size)}{end}"
            for size in _SIZES
        }
        self._postgres = f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({arrays}){end}"

    def __call__(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Inserts the rows."""
        if not rows:
            return
        if connection.dialect.name == "sqlite":
            execute = _driver(connection).execute
            for piece in _pieces(rows):
                statement = self._sqlite[len(piece)]
                try:
                    execute(statement, tuple(chain.from_iterable(piece)))
                except sqlite3.IntegrityError as error:
                    raise sa.exc.IntegrityError(statement, None, error) from error
        else:
            columns = tuple(list(column) for column in zip(*rows, strict=True))
            connection.exec_driver_sql(self._postgres, columns)


def _pieces(rows: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    start = 0
    for size in _SIZES:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


def next_ids(connection: sa.Connection, table: sa.Table, count: int) -> range | list[int]:
    """Ids for the next `count` rows of a table, ascending; for the write transaction that inserts them."""
    if connection.dialect.name == "sqlite":  # which has one writer: nobody comes between
        last = _driver(connection).execute(f"SELECT max(id) FROM {table.name}").fetchone()[0] or 0
        return range(last + 1, last + 1 + count)
    query = "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)"
    return sorted(connection.exec_driver_sql(query, (table.name, count)).scalars())


def _driver(connection: sa.Connection) -> Any:
    """SQLite's connection under SQLAlchemy's, in the same transaction."""
    return connection.connection.driver_connection


def _kind(column: sa.Column[Any]) -> str:
    return str(column.type)
