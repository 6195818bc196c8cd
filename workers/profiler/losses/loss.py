"""Loss: what a trainer computes of a micro-batch, as a trace sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from jobs.jobfile.spec import JobSpec

# model, spec, rows, length, weight of the router's loss -> the loss
Forward = Callable[[nn.Module, JobSpec, int, int, float], torch.Tensor]


@dataclass(frozen=True)
class Loss:
    """forward: the loss of rows x length tokens; outputs: of TRL's fused head, none where the model has no vocabulary;
    drops_out: whether the trainer leaves the model's dropout on; passes: forward passes without gradients of a job's
    micro-batch, while it holds activations, and before it has any.
    """

    forward: Forward
    outputs: tuple[str, ...]
    drops_out: bool = False
    passes: Callable[[JobSpec], tuple[int, int]] = lambda spec: (0, 0)


def ids(rows: int, length: int) -> torch.Tensor:
    return torch.zeros((rows, length), dtype=torch.int64)


def masked(rows: int, length: int) -> dict[str, torch.Tensor]:
    """Inputs of a padded batch."""
    return {"input_ids": ids(rows, length), "attention_mask": torch.ones((rows, length), dtype=torch.int64)}


def router(balance: float) -> dict[str, bool]:
    """What asks a model with experts for the loss of its router, where that is taken."""
    return {"output_router_logits": True} if balance else {}
