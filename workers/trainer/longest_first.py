"""Rows in an order whose first step has the longest ones, for an allocator that keeps what it once took.

torch's CUDA allocator with segments that don't expand takes new ones for each batch that is longer than all before it
(jobs/memory/allocator/terms.py). Where the longest comes first there is none: every later batch is cut from its
segments.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow.compute
from accelerate.data_loader import SeedableRandomSampler
from datasets import Dataset
from torch.utils.data import RandomSampler, Sampler


class LongestAtFirst(Sampler[int]):
    """A sampler's order with the longest rows in the first step of its first epoch, one for each rank."""

    def __init__(self, order: Sampler[int], lengths: Sequence[int], micro_batch: int, ranks: int, seed: int):
        # accelerate would put this one in the place of torch's, but only where it is the outermost.
        self._order = (
            SeedableRandomSampler(order.data_source, data_seed=seed)
            if isinstance(order, RandomSampler)
            else order
        )
        self._lengths, self._micro_batch, self._ranks = lengths, micro_batch, ranks

    def set_epoch(self, epoch: int) -> None:
        if isinstance(self._order, SeedableRandomSampler):
            self._order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        later = isinstance(self._order, SeedableRandomSampler) and self._order.epoch > 0
        rows = list(self._order)
        yield from rows if later else with_longest(rows, self._lengths, self._micro_batch, self._ranks)


def with_longest(order: Sequence[int], lengths: Sequence[int], micro_batch: int, ranks: int = 1) -> list[int]:
    """The order with as many of the longest rows as there are ranks at the start of each rank's first micro-batch.

    They change places with rows of the first step, and which rows that one has does not depend on the micro-batch: a
    job that goes on with another one trains each row once, as before.
    """
    made = list(order)
    for place, row in enumerate(heapq.nlargest(ranks, made, key=lambda row: lengths[row])):
        _swap(made, place, made.index(row))
    for rank in reversed(range(ranks)):
        if rank * micro_batch < len(made):
            _swap(made, rank, rank * micro_batch)
    return made


def _swap(made: list[int], one: int, other: int) -> None:
    made[one], made[other] = made[other], made[one]


def row_lengths(rows: Dataset) -> list[int]:
    """Tokens of each row; of one with two completions, with the longer."""
    table: Any = rows.with_format("arrow")[:]
    names = table.column_names

    def of(name: str) -> list[int]:
        return [int(count) for count in pyarrow.compute.list_value_length(table[name]).to_pylist()]

    answers = [
        of(name) for name in ("input_ids", "chosen_ids", "rejected_ids", "completion_ids") if name in names
    ]
    prompts = of("prompt_ids") if "prompt_ids" in names else [0] * len(rows)
    return [prompt + max(sizes) for prompt, *sizes in zip(prompts, *answers, strict=True)]
