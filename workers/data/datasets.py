"""The rows of a job as the data set that is trained on, and the part of it that is kept out of training."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow
from datasets import Dataset, load_dataset
from transformers import PreTrainedTokenizerBase

from jobs.errors import SpecError
from jobs.jobfile.sections.data import DataSpec
from jobs.jobfile.spec import JobSpec
from jobs.memory.dropped_rows import nothing_left, told, worth_a_warning
from jobs.memory.sequence_lengths import Lengths, held_out
from workers.data.arrow_rows import BATCH_ROWS, table_rows
from workers.data.checks import check_data, is_hub_id
from workers.data.compared import ComparedTokens
from workers.data.fingerprint import Printer
from workers.data.layout import Layout
from workers.data.rows import Rows, open_rows
from workers.data.tokens import Tokens, batches, every_turn_if_need_be
from workers.input_errors import Refused

log = logging.getLogger(__name__)

_IDS = pyarrow.list_(pyarrow.int32())
# Columns of the data set that each of TRL's trainers makes of its rows, and gives its collator.
SCHEMAS = {
    "sft": pyarrow.schema([("input_ids", _IDS), ("labels", _IDS)]),
    "dpo": pyarrow.schema([(name, _IDS) for name in ("prompt_ids", "chosen_ids", "rejected_ids")]),
    "kto": pyarrow.schema([("prompt_ids", _IDS), ("completion_ids", _IDS), ("label", pyarrow.bool_())]),
    "reward": pyarrow.schema([("chosen_ids", _IDS), ("rejected_ids", _IDS)]),
}
_LOOK_EVERY_S = 0.2


def open_data(data: DataSpec, trainer: str = "sft") -> Rows:
    """The rows that a job file names, as its trainer takes them.

    Raises SpecError, and for a hub id whatever datasets raises.
    """
    layout = Layout.of(data, trainer)
    if not os.path.exists(data.path) and is_hub_id(data.path):
        made = load_dataset(data.path, split=data.split)
        tables = made.with_format("arrow")
        return Rows(
            data.path, "row", lambda: table_rows(tables.iter(BATCH_ROWS), layout), len(made), layout=layout
        )
    if not os.path.exists(data.path):
        raise SpecError(check_data(data.path, data.split), "data")
    return open_rows(data.path, data.split, layout)


def tokens_of(
    spec: JobSpec,
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
    check_ids: Callable[[Sequence[int]], None],
    every_turn: str,
) -> Tokens:
    """What turns a job's rows into tokens, as its trainer takes them."""
    made = Tokens if spec.trainer == "sft" else ComparedTokens
    limit = spec.training.sequence_length
    return made(rows, tokenizer, limit, spec.data.loss_on, check_ids, every_turn, spec.trainer)


def build_dataset(
    spec: JobSpec,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    writes: bool = True,
    check_ids: Callable[[Sequence[int]], None] = lambda ids: None,
) -> Dataset:
    """The job's rows as tokens, without those of which nothing to learn is left; in their order.

    folder: of this attempt, for a file that is read from as long as it trains. writes: whether this process makes
    that file, or waits for the one on this host that does; check_ids: see Tokens. Raises SpecError.
    """
    path = folder / "rows.arrow"
    if writes:
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".tmp")
        every_turn_if_need_be(lambda why: _write(spec, tokenizer, draft, check_ids, why))
        os.replace(draft, path)
    while not path.exists():
        time.sleep(_LOOK_EVERY_S)
    return Dataset.from_file(str(path))


def split(rows: Dataset, spec: JobSpec) -> tuple[Dataset, Dataset | None]:
    """Rows to train on and rows to evaluate on, None without a holdout; the same for every rank. Raises Refused."""
    if not spec.data.holdout:
        return rows, None
    held = held_out(len(rows), spec.data.holdout)
    if held >= len(rows):
        raise Refused(
            f"data.holdout: {spec.data.path} has too few rows to keep some out of training: {len(rows)}"
        )
    parts = rows.train_test_split(test_size=held, seed=spec.training.seed)
    return parts["train"], parts["test"]


def _write(
    spec: JobSpec,
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    check_ids: Callable[[Sequence[int]], None],
    every_turn: str,
) -> None:
    rows, limit = open_data(spec.data, spec.trainer), spec.training.sequence_length
    tokens, schema = tokens_of(spec, rows, tokenizer, check_ids, every_turn), SCHEMAS[spec.trainer]
    printer, seen, truncated, dropped, longest = Printer(), 0, 0, 0, 0
    first = ""  # row that is left out
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, schema) as stream:
        for batch in batches(iter(rows)):
            seen += len(batch)
            for _, row in batch:
                printer.add(row)
            made = list(tokens.of(batch))
            kept = [one for one in made if one.learned]
            if len(kept) < len(made):
                first = first or rows.where(next(one.number for one in made if not one.learned))
            dropped += len(made) - len(kept)
            truncated += sum(one.whole > limit for one in kept)
            longest = max([longest, *(one.whole for one in made)])
            columns = [[one.columns[place] for one in kept] for place in range(len(schema.names))]
            stream.write_batch(pyarrow.record_batch(columns, schema=schema))
    printer.made().write(path.parent)
    for warning in tokens.warnings():
        log.warning("%s", warning)
    counted = Lengths.counted(
        {limit: seen - dropped}, rows=seen, truncated=truncated, dropped=dropped, longest_row=longest
    )
    if text := told(counted, spec):
        level = logging.WARNING if worth_a_warning(seen, dropped, truncated) else logging.INFO
        log.log(level, "%s%s", text, f"; the first left out: {first}" if first else "")
    if (fault := nothing_left(counted, spec)) is not None:
        raise SpecError([fault], "data")
