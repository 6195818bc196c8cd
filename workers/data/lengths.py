"""scan(): the lengths of a job's sequences, as TRL's SFTTrainer will make them.

The same text (end of text added, chat template), tokens, cut and drop as SFTTrainer._prepare_dataset of TRL 1.16,
in batches and without its passes over the disk; tests/workers/data/test_lengths.py holds the two against each other.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from jobs.lengths import Lengths
from jobs.spec import JobSpec
from workers.building import build_tokenizer
from workers.data.datasets import build_dataset

MOST_ROWS = 200_000
MOST_SECONDS = 60.0
BATCH_ROWS = 256  # between two looks at the clock

Row = dict[str, Any]


def scan(
    spec: JobSpec,
    trusted_models: list[str],
    most_rows: int = MOST_ROWS,
    most_seconds: float = MOST_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Lengths:
    """Lengths of the job's sequences: of all, or of a sample where the rows are more or take longer.

    Raises TuneyardError for data or a tokenizer that won't do, and whatever the libraries raise for what can't be
    reached.
    """
    began = clock()
    tokenizer = build_tokenizer(spec.model, trusted_models)
    rows = build_dataset(spec.data)
    found: Counter[int] = Counter()
    seen = truncated = dropped = 0
    limit, packing = spec.training.sequence_length, spec.training.packing
    for batch in _batches(rows):
        for length, prompt in _tokenized(batch, tokenizer, limit):
            # Packing cuts, and drops nothing.
            if not packing and prompt >= min(length, limit):
                dropped += 1
                continue
            truncated += length > limit
            found[min(length, limit)] += 1
        seen += len(batch)
        if seen >= most_rows or clock() - began >= most_seconds:
            break
    return Lengths.counted(
        found, rows=len(rows), truncated=truncated, dropped=dropped, sampled=seen < len(rows)
    )


def _batches(rows: Dataset) -> Iterator[list[Row]]:
    """Batches in random order: data is often sorted, and what is cut off must look like the rest."""
    starts = list(range(0, len(rows), BATCH_ROWS))
    random.Random(0).shuffle(starts)
    for start in starts:
        yield list(rows.select(range(start, min(start + BATCH_ROWS, len(rows)))))


def _tokenized(batch: list[Row], tokenizer: PreTrainedTokenizerBase, limit: int) -> Iterator[tuple[int, int]]:
    """Length of each row before it is cut, and how much of it is prompt, which is not learned from."""
    whole = _ids([_text(row, tokenizer) for row in batch], tokenizer, _is_chat(batch[0]))
    prompts: dict[int, list[int]] = {}
    if "prompt" in batch[0]:
        # Where nothing is cut, a completion is there to learn from: it ends in an end of text.
        long = [i for i, ids in enumerate(whole) if len(ids) > limit or _is_chat(batch[0])]
        texts = [_prompt(batch[i], tokenizer) for i in long]
        prompts = dict(zip(long, _ids(texts, tokenizer, _is_chat(batch[0])), strict=True))
    for index, ids in enumerate(whole):
        yield len(ids), _common(prompts.get(index, []), ids)


def _is_chat(row: Row) -> bool:
    return isinstance(row.get("messages", row.get("prompt")), list)


def _ids(texts: list[str], tokenizer: PreTrainedTokenizerBase, chat: bool) -> list[list[int]]:
    """Tokens of each text. A chat template writes its special tokens itself."""
    if not texts:
        return []
    made: list[list[int]] = tokenizer(texts, add_special_tokens=not chat)["input_ids"]
    return made


def _text(row: Row, tokenizer: PreTrainedTokenizerBase) -> str:
    """What is trained on, as text."""
    if _is_chat(row):
        messages = row["messages"] if "messages" in row else row["prompt"] + row["completion"]
        return _rendered(row, messages, tokenizer)
    column = "text" if "text" in row else "completion"
    learned: str = row[column]
    if not learned.endswith(tokenizer.eos_token):
        learned += tokenizer.eos_token
    return learned if column == "text" else row["prompt"] + learned


def _prompt(row: Row, tokenizer: PreTrainedTokenizerBase) -> str:
    """The prompt alone, as text."""
    if _is_chat(row):
        return _rendered(row, row["prompt"], tokenizer, add_generation_prompt=True)
    prompt: str = row["prompt"]
    return prompt


def _rendered(row: Row, messages: list[Row], tokenizer: PreTrainedTokenizerBase, **options: Any) -> str:
    tools = row.get("tools")
    tools = json.loads(tools) if isinstance(tools, str) else tools
    extra = row.get("chat_template_kwargs") or {}
    made: str = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, **options, **extra)
    return made


def _common(some: list[int], others: list[int]) -> int:
    """Leading tokens in common."""
    length = 0
    for one, other in zip(some, others, strict=False):
        if one != other:
            break
        length += 1
    return length
