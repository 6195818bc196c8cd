"""The yardstick of `make bench-start`: the TRL script that somebody would write for the same training.

python benchmarks/by_hand.py JOB.json OUTPUT: trains as the job file says, and prints as its last line
{"first_step": Unix seconds, "step_s": median seconds of the steps after the first}.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from itertools import pairwise
from typing import Any

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    """When each step ended: Unix seconds."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.time())


def main(job: dict[str, Any], output: str) -> None:
    """Train, and tell."""
    config, method, training = dict(job["model"]["config"]), job["method"], job["training"]
    set_seed(training["seed"])
    tokenizer = AutoTokenizer.from_pretrained(job["model"]["tokenizer"])
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(config.pop("model_type"), **config), dtype=torch.float32
    )
    clock = Clock()
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=output,
            max_steps=training["steps"],
            max_length=training["sequence_length"],
            per_device_train_batch_size=training["global_batch"],
            learning_rate=training["learning_rate"],
            seed=training["seed"],
            optim="adamw_torch_fused",
            activation_checkpointing=False,
            bf16=False,
            use_cpu=True,
            dataloader_pin_memory=False,
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=load_dataset("json", data_files=job["data"], split="train"),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=method["rank"], lora_alpha=method["alpha"], target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        callbacks=[clock],
    )
    trainer.train()
    trainer.save_model(output)
    steps = [end - begin for begin, end in pairwise(clock.ends)]
    print(json.dumps({"first_step": clock.ends[0], "step_s": statistics.median(steps)}))


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        main(json.load(file), sys.argv[2])
