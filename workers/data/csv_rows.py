"""Rows of CSV files: every value is text, exactly as it stands."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import TextIOWrapper
from typing import IO, Any

from workers.data.columns import LABEL
from workers.data.layout import PLAIN, Layout
from workers.input_errors import Bad

# The csv module refuses fields over 128 KiB; documents are longer.
csv.field_size_limit(2**31 - 1)


def csv_rows(file: IO[bytes], layout: Layout = PLAIN) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number of its first line and row of each record; of the columns, those that are trained on."""
    reader = csv.reader(TextIOWrapper(file, encoding="utf-8-sig", newline=""), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return
        kind = layout.kind(header)
        if kind is None:
            yield 1, dict.fromkeys(header, "")
            return
        for column in kind:
            if header.count(column) > 1:
                raise Bad(f"line 1 names {column} twice", "rename one of them")
        more = [column for column in layout.extras if layout.format and header.count(column) == 1]
        places = [(column, header.index(column)) for column in (*kind, *more)]
        number = reader.line_num + 1
        for values in reader:
            if values:
                if len(values) != len(header):
                    problem = f"line {number} has {len(values)} values, the header has {len(header)}"
                    raise Bad(problem, "put values with commas or line breaks in double quotes")
                yield number, {column: _value(layout.ours(column), values[place]) for column, place in places}
            number = reader.line_num + 1
    except csv.Error as error:
        raise Bad(f"line {reader.line_num} is not readable as CSV: {error}") from None
    except UnicodeDecodeError as error:
        file.seek(0)
        wrong = (number for number, line in enumerate(file, 1) if not _is_utf8(line))
        raise Bad(f"line {next(wrong, 1)} is not UTF-8: {error.reason}", "save it as UTF-8") from None


def _value(column: str, text: str) -> Any:
    """All values of CSV are text; a label can only be meant as true or false."""
    return {"true": True, "false": False}.get(text.lower(), text) if column == LABEL else text


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
