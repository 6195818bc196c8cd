"""`trainer: dpo`: DPOTrainer._compute_loss (trl 1.16), without the reference's forward pass, which is traced alone.

Of a batch the first half of the rows is chosen, the second half rejected. What the losses differ in works on one number
a row.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from jobs.jobfile.spec import JobSpec
from workers.profiler.losses.loss import Loss, ids, masked, router


def _forward(model: nn.Module, spec: JobSpec, rows: int, length: int, balance: float) -> torch.Tensor:
    inputs = {**masked(rows, length), "labels": ids(rows, length)}
    outputs = model(**inputs, **router(balance), use_cache=False, fused_lm_head=True)
    ratios = outputs.log_probs.sum(dim=1) - torch.zeros(rows)
    half = rows // 2  # rows of a trace may be odd
    margins = ratios[:half] - ratios[half : 2 * half]
    loss = -functional.logsigmoid(spec.dpo.beta * margins).mean()
    return loss + balance * outputs.aux_loss if balance else loss


LOSS = Loss(_forward, ("log_probs", "entropy", "mean_logits", "is_top1"), passes=lambda spec: (1, 0))
