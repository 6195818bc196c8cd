"""`trainer: dpo`: TRL's DPOTrainer."""

from __future__ import annotations

from typing import Any

from trl import DPOConfig, DPOTrainer

from jobs.jobfile.spec import JobSpec
from jobs.memory.rung import Rung
from workers.trainer.trainers.kind import Kind, whole_reference
from workers.trainer.trainers.referring import Referring


class GuardedDPO(Referring, DPOTrainer):
    """Direct preference optimization."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """The rows come as tokens (workers/data/compared.py)."""
        return dataset


def _fields(spec: JobSpec, rung: Rung) -> dict[str, Any]:
    own = {name: value for name, value in spec.dpo.model_dump().items() if name != "precompute_ref_log_probs"}
    return {**own, "precompute_ref_log_probs": rung.precompute}


KIND = Kind(DPOConfig, GuardedDPO, _fields, ("rewards/accuracies", "rewards/margins"), whole_reference)
