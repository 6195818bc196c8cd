"""`trainer: reward`: TRL's RewardTrainer."""

from __future__ import annotations

from typing import Any

from trl import RewardConfig, RewardTrainer

from jobs.jobfile.spec import JobSpec
from jobs.memory.rung import Rung
from workers.trainer.guarded import Guarded
from workers.trainer.trainers.kind import Kind


class GuardedReward(Guarded, RewardTrainer):
    """A model that gives a text one number."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """The rows come as tokens (workers/data/compared.py), without those that are too long."""
        return dataset


def _fields(spec: JobSpec, rung: Rung) -> dict[str, Any]:
    return spec.reward.model_dump()


KIND = Kind(RewardConfig, GuardedReward, _fields, ("accuracy", "margin"))
