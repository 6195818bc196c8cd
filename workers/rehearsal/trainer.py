"""A job's trainer with the rows in an order that shows the peak in every step."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from workers.trainer.guarded import Guarded
from workers.trainer.longest_first import row_lengths

EVALUATED = 2  # batches of rows held out: the longest, and another


class LongestFirst(Guarded):
    """Each step begins with the longest rows, and ends with them where it has three micro-batches or more. Between
    them come rows as they are: segments of the allocator are cut by their lengths.
    """

    def __init__(self, *args: Any, eval_dataset: Dataset | None = None, **kwargs: Any) -> None:
        if eval_dataset is not None:
            sizes = row_lengths(eval_dataset)
            count = EVALUATED * kwargs["args"].per_device_eval_batch_size
            eval_dataset = eval_dataset.select(_by_length(sizes)[:count])
        super().__init__(*args, eval_dataset=eval_dataset, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows = self.train_dataset if train_dataset is None else train_dataset
        return row_order(
            row_lengths(rows),
            micro_batch=self.args.per_device_train_batch_size,
            accumulation=self.args.gradient_accumulation_steps,
            steps=self.args.max_steps,
            seed=self.args.seed,
        )


def row_order(
    lengths: Sequence[int], *, micro_batch: int, accumulation: int, steps: int, seed: int
) -> list[int]:
    """Indices of the rows of all steps, in order. Rows come again where there are too few."""
    longest = _by_length(lengths)
    longest = (longest * -(-micro_batch // len(longest)))[:micro_batch]
    draw = random.Random(seed)
    made: list[int] = []
    for _ in range(steps):
        made += longest
        between = accumulation - (2 if accumulation > 2 else 1)
        made += [draw.randrange(len(lengths)) for _ in range(between * micro_batch)]
        made += longest if accumulation > 2 else []
    return made


def _by_length(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda row: -lengths[row])
