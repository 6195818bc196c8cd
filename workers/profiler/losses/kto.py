"""`trainer: kto`: KTOTrainer._compute_loss (trl 1.16), without its forward passes that have no gradients.

With the loss kto those are of the rows with each other's completions (the KL term), by the model before all else and by
the reference, and of the rows themselves by the reference.
"""

from __future__ import annotations

import torch
from torch import nn

from jobs.jobfile.spec import JobSpec
from workers.profiler.losses.loss import Loss, ids, masked, router


def _forward(model: nn.Module, spec: JobSpec, rows: int, length: int, balance: float) -> torch.Tensor:
    inputs = {**masked(rows, length), "labels": ids(rows, length)}
    outputs = model(**inputs, **router(balance), use_cache=False, fused_lm_head=True)
    ratios = outputs.log_probs.sum(-1) - torch.zeros(rows)
    loss = (1 - torch.sigmoid(spec.kto.beta * ratios)).nanmean()
    return loss + balance * outputs.aux_loss if balance else loss


def _passes(spec: JobSpec) -> tuple[int, int]:
    return (2, 1) if spec.kto.loss_type == "kto" else (1, 0)


LOSS = Loss(_forward, ("log_probs", "entropy", "mean_logits"), passes=_passes)
