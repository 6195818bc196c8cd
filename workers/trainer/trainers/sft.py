"""`trainer: sft`: TRL's SFTTrainer."""

from __future__ import annotations

from typing import Any

from trl import SFTConfig, SFTTrainer

from jobs.jobfile.spec import JobSpec
from jobs.memory.rung import Rung
from workers.trainer.guarded import Guarded
from workers.trainer.trainers.kind import Kind


class GuardedSFT(Guarded, SFTTrainer):
    """Supervised fine-tuning."""


def _fields(spec: JobSpec, rung: Rung) -> dict[str, Any]:
    packing = spec.training.packing
    return {
        "loss_type": spec.training.loss,
        "packing": packing,
        # The rows come as tokens and labels, cut (workers/data): all that is left to prepare is packing.
        "dataset_kwargs": None if packing else {"skip_prepare_dataset": True},
    }


KIND = Kind(SFTConfig, GuardedSFT, _fields)
