"""Rows of Arrow data: Parquet files, folders that datasets saved, data sets of the hub; values checked, never cast.

pyarrow is imported where it is used: it costs the server 25 MiB, and the base install lacks it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from workers.data.columns import LABEL
from workers.data.layout import PLAIN, Layout
from workers.input_errors import Bad

Convert = Callable[[Any], Any]

BATCH_ROWS = 1024
_WRITE_AGAIN = "write it again"


def parquet_columns(path: Path) -> tuple[list[str], int]:
    """Names of the columns and number of rows. Raises ImportError without pyarrow, Bad for what is no Parquet."""
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(0, path.stat().st_size - 4))
        if head != b"PAR1" or file.read(4) != b"PAR1":
            raise Bad("is not a Parquet file, or is cut off", _WRITE_AGAIN)
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as opened:
            return opened.schema_arrow.names, opened.metadata.num_rows
    except (OSError, ValueError) as error:
        raise Bad(f"can't be read as Parquet: {_first_line(error)}", _WRITE_AGAIN) from None


def parquet_rows(path: Path, layout: Layout = PLAIN) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and row, counted from 1; of the columns, those that are trained on."""
    from pyarrow import parquet

    used = _used(parquet_columns(path)[0], layout)
    try:
        with parquet.ParquetFile(path) as opened:
            yield from _rows(opened.iter_batches(BATCH_ROWS, columns=used), layout, used)
    except (OSError, ValueError) as error:
        raise Bad(f"can't be read as Parquet: {_first_line(error)}", _WRITE_AGAIN) from None


def saved_rows(files: Iterable[Path], layout: Layout = PLAIN) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same of the .arrow files of a saved data set, in their order."""
    import pyarrow

    def batches() -> Iterator[Any]:
        for path in files:
            try:
                with pyarrow.memory_map(str(path)) as source, pyarrow.ipc.open_stream(source) as stream:
                    used = _used(stream.schema.names, layout)
                    for batch in stream:
                        for start in range(0, batch.num_rows, BATCH_ROWS):
                            yield batch.select(used).slice(start, BATCH_ROWS)
            except (OSError, ValueError) as error:
                raise Bad(f"is damaged: {path.name}: {_first_line(error)}", "save it again") from None

    yield from _rows(batches(), layout)


def table_rows(tables: Iterable[Any], layout: Layout = PLAIN) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same of Arrow tables, as datasets hands them out."""
    yield from _rows((batch.select(_used(batch.schema.names, layout)) for batch in tables), layout)


def _used(columns: list[str], layout: Layout) -> list[str]:
    kind = layout.kind(columns)
    if kind is None:
        raise layout.no_kind(columns)
    for column in kind:
        if columns.count(column) > 1:
            raise Bad(f"has two columns {column}", "rename one of them")
    return [column for column in (*kind, *layout.extras) if columns.count(column) == 1]


def _rows(
    batches: Iterable[Any], layout: Layout, used: list[str] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    converts: dict[str, Convert | None] | None = None
    for batch in batches:
        names = used or batch.schema.names
        if converts is None:
            converts = {name: _column(name, batch.schema.field(name).type, layout) for name in names}
        columns = [_values(name, batch.column(name), converts[name], number) for name in names]
        for values in zip(*columns, strict=True):
            number += 1
            yield number, dict(zip(names, values, strict=True))


def _values(name: str, column: Any, convert: Convert | None, before: int) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist(maps_as_pydicts="strict")
    except (ValueError, KeyError) as error:
        raise Bad(f"{name} can't be read near row {before + 1}: {_first_line(error)}", _WRITE_AGAIN) from None
    if convert is None:
        return values
    try:
        return [None if value is None else convert(value) for value in values]
    except ValueError as error:
        raise Bad(f"{name} holds what is no JSON near row {before + 1}: {error}", _WRITE_AGAIN) from None


def _column(name: str, kind: Any, layout: Layout) -> Convert | None:
    """What makes plain values of a column of this type; None where they are so. Raises Bad for a type that won't do."""
    from pyarrow import types

    if types.is_null(kind):
        if name in layout.extras:
            return None
        raise Bad(f"row 1: {name} is null", "give it text, or remove the rows")
    ours = layout.ours(name)
    if name in layout.extras:
        return _converter(kind)
    if ours == LABEL:
        if types.is_boolean(kind):
            return None
        raise Bad(f"{name} is a column of type {kind}, not true or false", "save it as bool")
    if _is_text(kind):
        return None
    if _is_list(kind) or _is_json(kind):
        if ours == "text":
            raise Bad(f"{name} is a column of lists", "save it as text")
        return _converter(kind)
    wanted = "a list of messages" if ours in ("messages", "conversations") else "text"
    raise Bad(f"{name} is a column of type {kind}, not {wanted}", f"save it as {wanted}")


def _converter(kind: Any) -> Convert | None:
    """Arrow gives every object of a column the keys of all of them: those that are null are left out again."""
    from pyarrow import types

    if _is_json(kind):
        return json.loads
    if types.is_dictionary(kind):
        return _converter(kind.value_type)
    if _is_list(kind):
        inner = _converter(kind.value_type)
        return None if inner is None else lambda value: [None if v is None else inner(v) for v in value]
    if types.is_struct(kind):
        fields = {field.name: _converter(field.type) for field in kind}
        return lambda value: {
            key: one if (made := fields[key]) is None else made(one)
            for key, one in value.items()
            if one is not None
        }
    if types.is_map(kind):
        item = _converter(kind.item_type)
        return None if item is None else lambda value: {k: v and item(v) for k, v in value.items()}
    return None


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    named = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(is_one(kind) for is_one in (*named, types.is_list_view, types.is_large_list_view))


def _is_json(kind: Any) -> bool:
    return getattr(kind, "extension_name", "") == "arrow.json"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
