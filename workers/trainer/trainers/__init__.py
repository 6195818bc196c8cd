"""TRL's trainers that a job file can name, one module each: their classes, and what of their settings is a job's.

kind.py  what a trainer is to the rest of us
sft.py   supervised fine-tuning
"""

from __future__ import annotations

from workers.trainer.trainers import sft
from workers.trainer.trainers.kind import Kind

_KINDS = {"sft": sft.KIND}


def trainer_of(name: str) -> Kind:
    """The trainer that a job file means by `trainer: NAME`."""
    return _KINDS[name]
