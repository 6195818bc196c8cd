"""Training rows in files, and the first that won't do: JSON lines, JSON, CSV, Parquet, saved data sets."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from jobs.errors import UNREADABLE, Fault
from workers.checks.pointers import is_pointer, pointer_fault

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv")
KINDS = (("prompt", "completion"), ("messages",), ("text",))
WANTED = "it needs prompt and completion, or messages, or text"


# The csv module refuses fields over 128 KiB; documents are longer.
csv.field_size_limit(2**31 - 1)


class _Bad(Exception):
    """A row that won't do: where, and why."""


def kind_of(columns: Collection[str]) -> tuple[str, ...] | None:
    """The columns that will be trained on: the first of KINDS that is there whole."""
    return next((kind for kind in KINDS if set(kind) <= set(columns)), None)


def check_file(path: Path, limit: int | None) -> list[Fault]:
    """The first thing wrong with a data file. limit: rows to read at most; None reads all of them."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        return [
            _fault(
                path, f"has a name that ends in {suffix or 'nothing'}", f"use one of {', '.join(SUFFIXES)}"
            )
        ]
    try:
        if path.stat().st_size == 0:
            return [_fault(path, "is empty", WANTED)]
        if suffix == ".parquet":
            return _check_parquet(path)
        rows = _csv_rows(path) if suffix == ".csv" else _json_rows(path)
        return _check_rows(path, islice(rows, limit))
    except _Bad as error:
        return [_fault(path, str(error))]
    except UnicodeDecodeError as error:
        return [_fault(path, f"is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}")]
    except OSError as error:
        return [_fault(path, f"{UNREADABLE}{error.strerror}")]


def check_saved(folder: Path, split: str) -> list[Fault]:
    """The first thing wrong with a folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote."""
    try:
        if (folder / "dataset_dict.json").is_file():
            splits = json.loads((folder / "dataset_dict.json").read_bytes())["splits"]
            if split not in splits:
                return [Fault("data.split", split, f"is no split of {folder}", f"it has {', '.join(splits)}")]
            return check_saved(folder / split, split)
        if not (folder / "state.json").is_file() or not (folder / "dataset_info.json").is_file():
            problem = "is a folder that datasets did not save (no state.json and dataset_info.json)"
            return [_fault(folder, problem, "give a file in it, or a folder that save_to_disk wrote")]
        features = json.loads((folder / "dataset_info.json").read_bytes()).get("features") or {}
        for part in json.loads((folder / "state.json").read_bytes())["_data_files"]:
            if not (folder / part["filename"]).is_file():
                return [_fault(folder / part["filename"], "is missing", "save the data set again")]
            if is_pointer(folder / part["filename"]):
                return [pointer_fault("data.path", folder / part["filename"])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [_fault(folder, f"can't be read as a saved data set: {error}", "save the data set again")]
    return [] if kind_of(features) else [_no_columns(folder, features)]


def _check_rows(path: Path, rows: Iterator[tuple[str, dict[str, Any]]]) -> list[Fault]:
    kind: tuple[str, ...] | None = None
    for where, row in rows:
        if kind is None:
            kind = kind_of(row)
            if kind is None:
                return [_no_columns(path, row)]
        for column in kind:
            if problem := _value_problem(column, row.get(column)):
                return [_fault(path, f"{where}: {column} {problem}")]
    return [] if kind else [_fault(path, "has no rows", WANTED)]


def _value_problem(column: str, value: Any) -> str | None:
    if isinstance(value, str) and column != "messages":
        return None
    if value is None:
        return "is missing"
    if column == "text":
        return f"is not text but {_type(value)}"
    if not isinstance(value, list) or not value:
        wanted = "a list of messages" if column == "messages" else "text or a list of messages"
        return f"is not {wanted} but {'an empty list' if value == [] else _type(value)}"
    for message in value:
        if (
            not isinstance(message, dict)
            or "role" not in message
            or not {"content", "tool_calls"} & set(message)
        ):
            return "has a message without role and content"
    return None


def _json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows with where they stand. A .json file may be one list of rows; both may be one row a line."""
    if path.suffix.lower() == ".json":
        with path.open("rb") as file:
            listed = file.read(4096).lstrip()[:1] == b"["
        if listed:
            yield from _json_list(path)
            return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f"line {number}", _json_row(line, f"line {number}")


def _json_list(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        rows = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise _Bad(f"is not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise _Bad(f"row {number} is not a JSON object but {_type(row)}")
        yield f"row {number}", row


def _json_row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise _Bad(f"{where} is not JSON: {error.msg} at column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise _Bad(f"{where} is not UTF-8: {error.reason}") from None
    except RecursionError:
        raise _Bad(f"{where} is nested too deep") from None
    if not isinstance(row, dict):
        raise _Bad(f"{where} is not a JSON object but {_type(row)}")
    return row


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, None)
            if header is None:
                return
            if not kind_of(header):
                yield "line 1", dict.fromkeys(header, "")
                return
            for values in reader:
                if not values:
                    continue
                where = f"line {reader.line_num}"
                if len(values) != len(header):
                    raise _Bad(f"{where} has {len(values)} values, the header has {len(header)}")
                yield where, dict(zip(header, values, strict=True))
        except csv.Error as error:
            raise _Bad(f"line {reader.line_num} is not readable as CSV: {error}") from None


def _check_parquet(path: Path) -> list[Fault]:
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(0, path.stat().st_size - 4))
        if head != b"PAR1" or file.read(4) != b"PAR1":
            return [_fault(path, "is not a Parquet file, or is cut off", "write it again")]
    try:
        # Here, not above: only Parquet needs it, it costs the server 25 MiB, and the base install lacks it
        # (the columns are then left to the host).
        from pyarrow import parquet
    except ImportError:
        return []
    try:
        with parquet.ParquetFile(path) as opened:
            columns, count = opened.schema_arrow.names, opened.metadata.num_rows
    except (OSError, ValueError) as error:
        return [_fault(path, f"can't be read as Parquet: {str(error).splitlines()[0]}", "write it again")]
    if not kind_of(columns):
        return [_no_columns(path, columns)]
    return [] if count else [_fault(path, "has no rows", WANTED)]


def _no_columns(path: Path, columns: Collection[str]) -> Fault:
    there = ", ".join(str(column) for column in columns) or "none"
    return _fault(path, f"has none of the expected columns; it has: {there}", WANTED)


def _fault(path: Path, problem: str, fix: str = "") -> Fault:
    return Fault("data.path", str(path), problem, fix)


def _type(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
