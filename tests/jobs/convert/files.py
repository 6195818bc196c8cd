"""Configurations of one's own, in the shapes that people have them in, and what became of each key."""

from __future__ import annotations

import textwrap
from typing import Any

from jobs.convert.convert import Conversion, convert
from jobs.errors import SpecError

AXOLOTL = """
base_model: our-lab/tiny-llama
model_type: LlamaForCausalLM
tokenizer_type: AutoTokenizer
load_in_8bit: false
load_in_4bit: true
strict: false
datasets:
  - path: our-lab/chats
    type: chat_template
    split: train
dataset_prepared_path: prepared
val_set_size: 0.04
output_dir: ./out/one
adapter: qlora
lora_r: 24
lora_alpha: 48
lora_dropout: 0.02
lora_target_linear: true
lora_model_dir:
sequence_len: 3072
sample_packing: true
pad_to_sequence_len: true
wandb_project:
gradient_accumulation_steps: 6
micro_batch_size: 3
num_epochs: 2
optimizer: paged_adamw_8bit
lr_scheduler: cosine
learning_rate: 3e-4
bf16: auto
tf32: false
gradient_checkpointing: true
logging_steps: 1
flash_attention: true
warmup_ratio: 0.05
evals_per_epoch: 3
saves_per_epoch: 1
weight_decay: 0.01
"""
LLAMAFACTORY = """
### model
model_name_or_path: our-lab/tiny-qwen
trust_remote_code: false
### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 12
lora_target: all
### dataset
dataset: our_answers
template: qwen
cutoff_len: 1536
max_samples: 500
overwrite_cache: true
preprocessing_num_workers: 8
### output
output_dir: saves/one
logging_steps: 5
save_steps: 200
plot_loss: true
overwrite_output_dir: true
### train
per_device_train_batch_size: 2
gradient_accumulation_steps: 5
learning_rate: 1.0e-4
num_train_epochs: 2.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
### eval
val_size: 0.1
eval_strategy: steps
eval_steps: 100
per_device_eval_batch_size: 1
"""
TRL = """
model_name_or_path: our-lab/tiny-qwen
dataset_name: our-lab/chats
dtype: bfloat16
use_peft: true
lora_r: 20
lora_target_modules: [q_proj, k_proj]
max_length: 2048
packing: true
per_device_train_batch_size: 4
gradient_accumulation_steps: 2
learning_rate: 5.0e-5
num_train_epochs: 1
lr_scheduler_type: cosine
output_dir: out
report_to: none
"""
SCRIPT = """
import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

MODEL = "our-lab/tiny-mistral"
packed = BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
)
model = AutoModelForCausalLM.from_pretrained(MODEL, quantization_config=packed, device_map="auto", dtype=torch.bfloat16)
tokenizer = AutoTokenizer.from_pretrained(MODEL)
data = load_dataset("our-lab/chats", split="train")
peft = LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "o_proj"], task_type="CAUSAL_LM", bias="none")
args = SFTConfig(
    output_dir="out", per_device_train_batch_size=2, gradient_accumulation_steps=8, learning_rate=2e-4, max_steps=500,
    max_length=1024, logging_steps=10, optim="paged_adamw_8bit", report_to="none",
)
trainer = SFTTrainer(model=model, args=args, train_dataset=data, peft_config=peft, processing_class=tokenizer)
trainer.train()
"""


def job(text: str, source: str = "one.yaml", **how: Any) -> dict[str, Any]:
    """The job file's mapping, which is a job."""
    made = convert(text, source, **how)
    assert not made.missing, made.missing
    return made.job


def with_(base: str, *lines: str, without: tuple[str, ...] = ()) -> str:
    """A configuration with other lines; without: keys that are left out, beside those that lines set."""
    given = [*map(textwrap.dedent, lines)]
    gone = {*without, *(line.partition(":")[0] for line in given)}
    kept = [line for line in base.splitlines() if line.partition(":")[0] not in gone]
    return "\n".join([*kept, *given])


def listed(made: Conversion) -> dict[str, str]:
    return {one.key: one.reason for one in made.of("listed")}


def refusals(text: str, source: str = "one.yaml", **how: Any) -> dict[str, str]:
    try:
        convert(text, source, **how)
    except SpecError as error:
        return {one.path: f"{one.problem}; {one.fix}" for one in error.faults}
    return {}
