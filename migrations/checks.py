"""CHECK constraints changed in place, on both databases."""

from __future__ import annotations

from collections.abc import Sequence

from alembic import op


def change_values(table: str, column: str, name: str, old: Sequence[str], new: Sequence[str]) -> None:
    """Have `column IN (old)` be `column IN (new)`.

    SQLite keeps a table's text and can't alter it. To copy the table would break foreign keys to it, so the text is
    edited as https://www.sqlite.org/lang_altertable.html says under "Making Other Kinds Of Table Schema Changes".
    """
    before, after = (f"{column} IN ({', '.join(map(_quoted, values))})" for values in (old, new))
    if op.get_bind().dialect.name != "sqlite":
        op.drop_constraint(op.f(name), table, type_="check")
        op.create_check_constraint(op.f(name), table, after)
        return
    connection = op.get_bind()
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar() or 0
    connection.exec_driver_sql("PRAGMA writable_schema=ON")
    edited = connection.exec_driver_sql(
        "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = ? AND instr(sql, ?)",
        (before, after, table, before),
    )
    connection.exec_driver_sql(f"PRAGMA schema_version={version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema=OFF")
    if edited.rowcount != 1:
        raise RuntimeError(f"table {table} has no constraint {before}")


def _quoted(value: str) -> str:
    return f"'{value}'"
