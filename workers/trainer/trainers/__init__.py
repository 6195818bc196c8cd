"""TRL's trainers that a job file can name, one module each: their classes, and what of their settings is a job's.

dpo.py        direct preference optimization
kind.py       what a trainer is to the rest of us
kto.py        Kahneman-Tversky optimization
referring.py  trainers with a reference: its forward pass leaves checkpointing as it was
reward.py     reward models
sft.py        supervised fine-tuning
"""

from __future__ import annotations

from workers.trainer.trainers import dpo, kto, reward, sft
from workers.trainer.trainers.kind import Kind

_KINDS = {"sft": sft.KIND, "dpo": dpo.KIND, "kto": kto.KIND, "reward": reward.KIND}


def trainer_of(name: str) -> Kind:
    """The trainer that a job file means by `trainer: NAME`."""
    return _KINDS[name]
