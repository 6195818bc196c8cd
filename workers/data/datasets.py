"""The rows of a job as a data set, and the part of them that is kept out of training."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError

from jobs.errors import SpecError
from jobs.spec import DataSpec, JobSpec
from workers.building import Refused
from workers.data.checks import check_data
from workers.data.rows import WANTED, kind_of

_LOADERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
_CHAT_EXTRAS = ("tools", "chat_template_kwargs")


def build_dataset(data: DataSpec) -> Dataset:
    """The training rows, with just the columns that will be trained on. Raises SpecError or Refused."""
    try:
        rows = _load(data)
    except (DatasetGenerationError, ValueError, OSError) as error:
        # datasets says what went wrong inside it; our own reading names the line.
        if faults := check_data(data.path, data.split):
            raise SpecError(faults) from error
        raise
    kind = kind_of(rows.column_names)
    if kind is None:
        there = ", ".join(rows.column_names)
        raise Refused(f"data.path: {data.path} has none of the expected columns; it has: {there}; {WANTED}")
    if len(rows) == 0:
        raise Refused(f"data.path: {data.path} has no rows; {WANTED}")
    return rows.select_columns([c for c in rows.column_names if c in (*kind, *_CHAT_EXTRAS)])


def split(rows: Dataset, spec: JobSpec) -> tuple[Dataset, Dataset | None]:
    """Rows to train on and rows to evaluate on, None without a holdout; the same for every rank. Raises Refused."""
    if not spec.data.holdout:
        return rows, None
    held = max(1, round(len(rows) * spec.data.holdout))
    if held >= len(rows):
        raise Refused(
            f"data.holdout: {spec.data.path} has too few rows to keep some out of training: {len(rows)}"
        )
    parts = rows.train_test_split(test_size=held, seed=spec.training.seed)
    return parts["train"], parts["test"]


def _load(data: DataSpec) -> Dataset:
    path = Path(data.path)
    if path.is_file():
        loader = _LOADERS.get(path.suffix.lower())
        if loader is None:
            raise SpecError(check_data(data.path, data.split))
        return load_dataset(loader, data_files=str(path), split="train")
    if not path.is_dir():
        return load_dataset(data.path, split=data.split)
    saved = load_from_disk(str(path))
    if not isinstance(saved, DatasetDict):
        return saved
    if data.split not in saved:
        raise SpecError(check_data(data.path, data.split))
    return saved[data.split]
