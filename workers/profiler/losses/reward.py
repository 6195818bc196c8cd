"""`trainer: reward`: RewardTrainer.compute_loss (trl 1.16). The model gives each row one number, and no logits."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from jobs.jobfile.spec import JobSpec
from workers.profiler.losses.loss import Loss, masked


def _forward(model: nn.Module, spec: JobSpec, rows: int, length: int, balance: float) -> torch.Tensor:
    outputs = model(**masked(rows, length), use_cache=False)
    rewards = outputs.logits.squeeze(-1)
    half = rows // 2  # rows of a trace may be odd
    margins = rewards[:half] - rewards[half : 2 * half]
    return -functional.logsigmoid(margins).mean()


LOSS = Loss(_forward, ())
