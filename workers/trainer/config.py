"""TRL's configuration of a job: what all of its trainers share, and what each adds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from jobs.jobfile.spec import JobSpec
from jobs.memory.rung import Rung
from workers.trainer.options import of_every_trainer
from workers.trainer.trainers import trainer_of


def trl_config(
    spec: JobSpec, rung: Rung, output_dir: Path | str, *, use_cpu: bool, world_size: int = 1
) -> TrainingArguments:
    """TRL's configuration of a job on a rung; what the memory profile is traced with is this, too.

    activation_checkpointing is always given: left out, TRL 1.16 takes its own gradient_checkpointing=True.
    """
    training = spec.training
    checkpointing: dict[str, Any] = {"activation_checkpointing": False}
    # Unsloth has set its own when it built the model, which transformers would replace.
    if rung.every_n and spec.model.engine != "unsloth":
        checkpointing = {
            "activation_checkpointing": True,
            "activation_checkpointing_kwargs": {
                "every_n_layers": rung.every_n,
                "use_reentrant": False,
                "offload": rung.offload,
            },
        }
    kind = trainer_of(spec.trainer)
    return kind.config(
        output_dir=str(output_dir),
        **checkpointing,
        per_device_train_batch_size=rung.micro_batch,
        gradient_accumulation_steps=rung.accumulation,
        max_length=training.sequence_length,
        max_steps=training.steps or -1,
        num_train_epochs=training.epochs or 1,
        bf16=spec.autocast_dtype == "bfloat16",
        fp16=spec.autocast_dtype == "float16" and not use_cpu,
        use_cpu=use_cpu,
        dataloader_pin_memory=not use_cpu,
        ddp_backend=("gloo" if use_cpu else "nccl") if world_size > 1 else None,
        ddp_find_unused_parameters=False if world_size > 1 else None,
        # No logits are kept: nothing asks for them. Below 1 transformers reads eval_steps as a share of the run.
        eval_strategy="steps" if spec.data.holdout else "no",
        eval_steps=training.eval_steps or 0.1,
        per_device_eval_batch_size=rung.micro_batch,
        prediction_loss_only=True,
        # Lines and checkpoints are the reporter's to decide.
        logging_strategy="no",
        logging_nan_inf_filter=False,  # it would count a NaN as the mean of the losses before it
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **kind.fields(spec, rung),
        **of_every_trainer(training),
    )
