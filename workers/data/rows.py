"""open_rows(): the one reader of training data. The check at submit, the scan and the trainer all read through it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from jobs.errors import UNREADABLE, Fault, SpecError
from workers.data import arrow_rows
from workers.data.columns import wanted
from workers.data.csv_rows import csv_rows
from workers.data.json_rows import is_list, json_lines, json_list
from workers.data.layout import PLAIN, Layout
from workers.data.shape import Shape
from workers.input_errors import Bad
from workers.lfs_pointers import is_pointer, pointer_fault

Row = dict[str, Any]

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv")

# How files begin that are not what their name says.
_BEGINNINGS = (
    (b"\xff\xfe", "is UTF-16", "save it as UTF-8"),
    (b"\xfe\xff", "is UTF-16", "save it as UTF-8"),
    (b"\x1f\x8b", "is compressed with gzip", "decompress it"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "decompress it"),
    (b"BZh", "is compressed with bzip2", "decompress it"),
    (b"PK\x03\x04", "is a zip archive or a spreadsheet", "save it as CSV or JSON lines"),
    (b"PAR1", "is a Parquet file", "name it .parquet"),
)


class Rows:
    """Rows of one source, each checked: iterate for (number, values); `where` names a number in messages.

    values: the columns of `shape.kind`, as text or as lists of messages, and of a conversation what else it brings
    (columns.EXTRAS). path: of the file, folder or data set. total: how many there are, where that is known beforehand.
    Iterating raises SpecError with the file, the line or row, and what would be right.
    """

    def __init__(
        self,
        path: str,
        unit: str,
        read: Callable[[], Iterator[tuple[int, Row]]],
        total: int | None = None,
        share: Callable[[], float] = lambda: 1.0,
        layout: Layout = PLAIN,
    ) -> None:
        self._layout = layout
        self.path, self.total, self.share = path, total, share
        self._unit, self._read = unit, read
        self.shape: Shape | None = None

    def where(self, number: int) -> str:
        return f"{self._unit} {number}"

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        shape = None
        try:
            for number, row in self._read():
                try:
                    if not self._layout.plain:
                        row = self._converted(row, shape is None)
                    if shape is None:
                        shape = self.shape = Shape(row, self._layout.trainer)
                    taken = shape.take(row)
                except Bad as bad:
                    raise (bad if shape is None else bad.at(self.where(number))) from None
                yield number, taken
        except Bad as bad:
            raise bad.error(self.path) from None
        except OSError as error:
            raise Bad(f"{UNREADABLE}{error.strerror or error}").error(self.path) from None
        if shape is None:
            raise Bad("has no rows", wanted(self._layout.trainer)).error(self.path)

    def _converted(self, row: Row, first: bool) -> Row:
        """A row of the file as one of ours. Raises Bad; of the first one for columns that it lacks, too."""
        if first and self._layout.kind(row) is None:
            raise self._layout.no_kind(row)
        return self._layout.convert(row)


def open_rows(path: str, split: str = "train", layout: Layout = PLAIN) -> Rows:
    """The rows of a local file or saved folder, as a trainer takes them. Raises SpecError for what is none."""
    local = Path(path)
    try:
        return _saved(local, split, layout) if local.is_dir() else _file(local, layout)
    except Bad as bad:
        raise bad.error(path) from None
    except OSError as error:
        raise Bad(f"{UNREADABLE}{error.strerror or error}").error(path) from None


def _file(path: Path, layout: Layout) -> Rows:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        problem = f"has a name that ends in {suffix or 'nothing'}"
        raise Bad(problem, f"use one of {', '.join(SUFFIXES)}")
    size = path.stat().st_size
    if size == 0:
        raise Bad("is empty", wanted(layout.trainer))
    if is_pointer(path):
        raise SpecError([pointer_fault("data.path", path)], "data")
    if suffix == ".parquet":
        total = arrow_rows.parquet_columns(path)[1]
        return Rows(str(path), "row", lambda: arrow_rows.parquet_rows(path, layout), total, layout=layout)
    with path.open("rb") as file:
        head = file.read(32)
        for beginning, problem, fix in _BEGINNINGS:
            if head.startswith(beginning):
                raise Bad(problem, fix)
        file.seek(0)
        listed = suffix == ".json" and is_list(file)
    read = csv_rows if suffix == ".csv" else json_list if listed else json_lines
    opened: list[IO[bytes]] = []

    def rows() -> Iterator[tuple[int, Row]]:
        with path.open("rb") as file:
            opened[:] = [file]
            yield from read(file, layout)

    def share() -> float:
        return opened[0].tell() / size if opened and not opened[0].closed else 1.0

    return Rows(str(path), "row" if listed else "line", rows, share=share, layout=layout)


def _saved(folder: Path, split: str, layout: Layout) -> Rows:
    """A folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote."""
    try:
        if (folder / "dataset_dict.json").is_file():
            splits = json.loads((folder / "dataset_dict.json").read_bytes())["splits"]
            if split not in splits:
                there = f"it has {', '.join(splits)}"
                raise SpecError([Fault("data.split", split, f"is no split of {folder}", there)], "data")
            return _saved(folder / split, split, layout)
        if not (folder / "state.json").is_file() or not (folder / "dataset_info.json").is_file():
            problem = "is a folder that datasets did not save (no state.json and dataset_info.json)"
            raise Bad(problem, "give a file in it, or a folder that save_to_disk wrote")
        features = json.loads((folder / "dataset_info.json").read_bytes()).get("features") or {}
        parts = json.loads((folder / "state.json").read_bytes())["_data_files"]
        files = [folder / part["filename"] for part in parts]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Bad(f"can't be read as a saved data set: {error}", "save the data set again") from None
    if missing := next((file for file in files if not file.is_file()), None):
        raise Bad(f"lacks {missing.name}: it is missing", "save the data set again")
    if pointer := next((file for file in files if is_pointer(file)), None):
        raise SpecError([pointer_fault("data.path", pointer)], "data")
    if not layout.kind(features):
        raise layout.no_kind(features)
    return Rows(str(folder), "row", lambda: arrow_rows.saved_rows(files, layout), layout=layout)
