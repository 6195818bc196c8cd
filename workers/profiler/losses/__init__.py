"""What one micro-batch of each trainer computes, in TRL's order, on fake tensors.

dpo.py     direct preference optimization
kto.py     Kahneman-Tversky optimization
loss.py    what a loss is to a trace
reward.py  reward models
sft.py     supervised fine-tuning
"""

from __future__ import annotations

from workers.profiler.losses import dpo, kto, reward, sft
from workers.profiler.losses.loss import Loss

_LOSSES = {"sft": sft.LOSS, "dpo": dpo.LOSS, "kto": kto.LOSS, "reward": reward.LOSS}


def loss_of(trainer: str) -> Loss:
    """The loss that a job's trainer takes."""
    return _LOSSES[trainer]
