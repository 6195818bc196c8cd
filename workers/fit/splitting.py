"""A micro-batch in smaller ones, with the same gradients.

TRL divides the summed loss of a micro-batch by the tokens of the whole step (trl 1.16, SFTTrainer.compute_loss), so
that the parts of one add up to it. That is not so of what a model computes of each micro-batch as a whole: the
load-balancing loss of models with experts, or any loss that transformers divides by the accumulation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch


def divisible(trainer: Any, inputs: Mapping[str, Any], tokens_of_step: Any) -> bool:
    """Whether the rows of this micro-batch can be trained on in parts: each its own, the loss a sum over tokens."""
    if (
        tokens_of_step is None
        or getattr(trainer, "aux_loss_enabled", False)
        or trainer.compute_loss_func is not None
    ):
        return False
    rows = rows_of(inputs)
    return rows > 1 and all(
        isinstance(one, torch.Tensor) and one.dim() and len(one) == rows for one in inputs.values()
    )


def rows_of(inputs: Mapping[str, Any]) -> int:
    """Rows of a micro-batch; 1 of one that is packed flat."""
    return len(inputs["input_ids"])


def parts_of(inputs: Mapping[str, Any], rows: int) -> Iterator[dict[str, Any]]:
    """The micro-batch in parts of so many rows, itself where it has no more. What a step puts in is not kept."""
    whole = rows_of(inputs)
    if whole <= rows:
        yield dict(inputs)
        return
    for start in range(0, whole, rows):
        yield {name: one[start : start + rows] for name, one in inputs.items()}
