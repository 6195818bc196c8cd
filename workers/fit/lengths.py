"""How long the rows are that a script trains on, as its trainer will make them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from jobs.errors import TuneyardError, UsageError
from jobs.jobfile.sections.data import DataSpec
from jobs.jobfile.spec import JobSpec
from jobs.memory.sequence_lengths import Lengths
from workers.data.arrow_rows import BATCH_ROWS, table_rows
from workers.data.datasets import open_data
from workers.data.rows import Rows
from workers.profiler.length_scan import scan_rows

MOST_SECONDS = 30.0
_TEXT = "text"


def lengths_of(
    data: Any, spec: JobSpec, config: Any, model: Any, tokenizer: PreTrainedTokenizerBase | None
) -> tuple[Lengths | None, str]:
    """Lengths of the rows, and why there are none: every row may then be as long as max_length.

    data: a data set, a path or hub id, None for one that nobody counts. Raises UsageError for what is no data.
    """
    if data is None:
        return None, "no data was given: every row is taken to be as long as max_length"
    if isinstance(data, (DatasetDict, dict)):
        names = ", ".join(data)
        raise UsageError(
            f"data: has splits ({names}); give the one that is trained on, such as data['train']"
        )
    if not isinstance(data, (Dataset, str, os.PathLike)):
        kind = type(data).__name__
        if kind != "IterableDataset":
            raise UsageError(f"data: is a {kind}; give a datasets.Dataset, a path, a hub id, or None")
        return None, "an IterableDataset is not counted: every row is taken to be as long as max_length"
    if isinstance(data, Dataset) and "input_ids" in data.column_names:
        return _tokens(data, spec), ""
    try:
        tokenizer = tokenizer or _tokenizer(model, config)
        if config.chat_template_path:
            _take_template(tokenizer, config.chat_template_path)
        return scan_rows(lambda: _opened(data, config), spec, tokenizer, most_seconds=MOST_SECONDS), ""
    except (TuneyardError, OSError, ValueError) as error:
        why = error.line if hasattr(error, "line") else str(error).partition("\n")[0]
        return None, f"the rows were not counted, each is taken to be as long as max_length: {why}"


def _opened(data: Any, config: Any) -> Rows:
    if not isinstance(data, Dataset):
        return open_data(DataSpec(path=os.fspath(data)))
    column = config.dataset_text_field
    if column != _TEXT and column in data.column_names and _TEXT not in data.column_names:
        data = data.rename_column(column, _TEXT)
    tables = data.with_format("arrow")
    return Rows("data", "row", lambda: table_rows(tables.iter(BATCH_ROWS)), len(data))


def _tokens(data: Dataset, spec: JobSpec) -> Lengths:
    """Of rows that are tokens already."""
    limit = spec.training.sequence_length
    found: Counter[int] = Counter()
    longest = 0
    for table in data.select_columns(["input_ids"]).with_format("arrow").iter(BATCH_ROWS):
        sizes = table.column("input_ids").combine_chunks().value_lengths().to_pylist()
        longest = max([longest, *sizes])
        found.update(min(size, limit) for size in sizes)
    cut = sum(table for length, table in found.items() if length == limit) if longest > limit else 0
    return Lengths.counted(found, rows=len(data), truncated=cut, longest_row=longest)


def _tokenizer(model: Any, config: Any) -> PreTrainedTokenizerBase:
    named = getattr(getattr(model, "config", None), "name_or_path", None)
    given = config.model_init_kwargs or {}
    source = os.fspath(model) if isinstance(model, (str, os.PathLike)) else named
    if not source:
        raise UsageError("the model has no name to find its tokenizer by; give processing_class")
    return AutoTokenizer.from_pretrained(
        source, revision=given.get("revision"), trust_remote_code=config.trust_remote_code
    )


def _take_template(tokenizer: PreTrainedTokenizerBase, given: str) -> None:
    """As SFTTrainer does (trl 1.16): a Jinja file, else the tokenizer that has it."""
    path = Path(given)
    if path.is_file() and path.suffix in (".jinja", ".j2"):
        tokenizer.chat_template = path.read_text(encoding="utf-8")
    else:
        tokenizer.chat_template = AutoTokenizer.from_pretrained(given).chat_template
