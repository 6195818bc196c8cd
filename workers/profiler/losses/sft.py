"""`trainer: sft`: SFTTrainer.compute_loss (trl 1.16)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from jobs.jobfile.spec import JobSpec
from workers.profiler.losses.loss import Loss, ids, router


def _forward(model: nn.Module, spec: JobSpec, rows: int, length: int, balance: float) -> torch.Tensor:
    inputs: dict[str, Any] = {"input_ids": ids(rows, length), "labels": ids(rows, length)}
    if spec.training.packing:
        inputs["position_ids"] = ids(rows, length)
    if not spec.training.packing or spec.model.attention == "flash_attention_2":
        inputs["attention_mask"] = torch.ones((rows, length), dtype=torch.int64)
    outputs = model(**inputs, **router(balance), use_cache=False, fused_lm_head=True)
    losses = -outputs.log_probs
    if spec.training.loss == "dft":
        losses = losses * outputs.log_probs.exp().detach()
    loss = losses.sum() / torch.as_tensor(rows * length)
    return loss + balance * outputs.aux_loss if balance else loss


LOSS = Loss(_forward, ("log_probs", "entropy", "is_top1"), drops_out=True)
