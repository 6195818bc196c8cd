"""Rows written to files of every format that is read."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
from datasets import Dataset, Features, Json, List, Value
from pyarrow import parquet

Row = dict[str, Any]
TEXT_FORMATS = ("jsonl", "ascii.jsonl", "json", "csv", "parquet", "dictionary.parquet", "saved")
CHAT_FORMATS = ("jsonl", "ascii.jsonl", "json", "parquet", "saved")


def write(rows: list[Row], name: str, folder: Path) -> Path:
    """A file or folder of one of the formats above."""
    path = folder / f"rows.{name}"
    if name.endswith("jsonl"):
        lines = [json.dumps(row, ensure_ascii=name.startswith("ascii")) for row in rows]
        path.write_bytes("".join(line + "\n" for line in lines).encode())
    elif name == "json":
        path.write_bytes(json.dumps(rows, ensure_ascii=False, indent=1).encode())
    elif name == "csv":
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            csv.writer(file).writerows([list(rows[0]), *([row[key] for key in rows[0]] for row in rows)])
    elif name.endswith("parquet"):
        kind = pyarrow.dictionary(pyarrow.int32(), pyarrow.string()) if "dictionary" in name else None
        columns = {key: pyarrow.array([row[key] for row in rows], kind) for key in rows[0]}
        parquet.write_table(pyarrow.table(columns), path)
    else:
        made = {key: List(Json()) if isinstance(v, list) else Value("string") for key, v in rows[0].items()}
        Dataset.from_list(rows, features=Features(made)).save_to_disk(path)
    return path
