"""`trainer: kto`: TRL's KTOTrainer."""

from __future__ import annotations

from typing import Any

from trl import KTOConfig, KTOTrainer

from jobs.jobfile.spec import JobSpec
from jobs.memory.rung import Rung
from workers.trainer.trainers.kind import Kind, whole_reference
from workers.trainer.trainers.referring import Referring


class GuardedKTO(Referring, KTOTrainer):
    """Kahneman-Tversky optimization."""

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """The rows come as tokens (workers/data/compared.py).

        For the KL term each gets the completion of the one before it in its micro-batch, the first that of the last, as
        TRL 1.16 has it.
        """
        if not self.calculate_KL:
            return dataset
        return dataset.map(_mismatched, batched=True, batch_size=args.per_device_train_batch_size)


def _mismatched(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    answers = rows["completion_ids"]
    return {**rows, "KL_completion_ids": [answers[-1], *answers[:-1]]}


def _fields(spec: JobSpec, rung: Rung) -> dict[str, Any]:
    own = {name: value for name, value in spec.kto.model_dump().items() if name != "precompute_ref_log_probs"}
    return {**own, "precompute_ref_log_probs": rung.precompute}


KIND = Kind(KTOConfig, GuardedKTO, _fields, ("rewards/margins",), whole_reference)
