"""Real runs of the trainers of preferences: drawn as those of real.py are, with rows of token ids."""

from __future__ import annotations

import random
from typing import Any

from datasets import Dataset

from benchmarks.memory.shapes import job
from jobs.jobfile.spec import JobSpec
from jobs.memory.rung import Rung
from workers.data.datasets import SCHEMAS

TRAINERS = ("dpo", "reward", "kto")
LORA = {"kind": "lora", "rank": 8}
STEPS = 2


def draws(count: int, seed: int) -> list[tuple[str, str, JobSpec, Rung]]:
    """Model, method, job and rung: trainers in turn, full and with adapters by turns, the rest at random."""
    chance = random.Random(seed)
    made = []
    for index in range(count):
        trainer = TRAINERS[index % len(TRAINERS)]
        method = ("full", "lora")[index // len(TRAINERS) % 2]
        heads = chance.choice([4, 8])
        name = chance.choice(["llama", "qwen3"])
        config: dict[str, Any] = {
            "model_type": name,
            "hidden_size": 64 * heads,
            "intermediate_size": chance.choice([128, 192]) * heads,
            "num_hidden_layers": chance.choice([4, 6, 8]),
            "num_attention_heads": heads,
            "num_key_value_heads": chance.choice([2, heads]),
            "vocab_size": chance.choice([4096, 16000]),
            "max_position_embeddings": 1024,
            **({"head_dim": 64, "tie_word_embeddings": True} if name == "qwen3" else {}),
        }
        sizes = [2, 4] if trainer == "kto" else [1, 2]
        precompute = trainer != "reward" and chance.random() < 0.25
        every = index // (2 * len(TRAINERS)) % 3
        rung = Rung(every, chance.choice(sizes), chance.choice([1, 2]), precompute=precompute)
        spec = job(
            config,
            LORA if method == "lora" else "full",
            trainer=trainer,
            model={"dtype": chance.choice(["bfloat16", "float32"])},
            training={
                "sequence_length": chance.choice([96, 200, 384, 512]),
                "global_batch": rung.micro_batch * rung.accumulation,
                "steps": STEPS,
            },
        )
        made.append((name, f"{trainer} {method}", spec, rung))
    return made


def rows(spec: JobSpec, rung: Rung) -> Dataset:
    """Rows of token ids: the first of each micro-batch is as long as can be, the others a little shorter."""
    count = STEPS * rung.accumulation * rung.micro_batch
    length, vocabulary = spec.training.sequence_length, (spec.model.config or {})["vocab_size"]
    made: list[dict[str, Any]] = []
    for index in range(count):
        ids = [(7 * n + 3 * index) % vocabulary for n in range(length - index % rung.micro_batch)]
        cut = 8
        values: dict[str, Any] = {
            "prompt_ids": ids[:cut],
            "completion_ids": ids[cut:],
            "label": index % 2 == 0,
            "chosen_ids": ids if spec.trainer == "reward" else ids[cut:],
            "rejected_ids": ids[: length - 5] if spec.trainer == "reward" else ids[cut : length - 5],
        }
        made.append({name: values[name] for name in SCHEMAS[spec.trainer].names})
    return Dataset.from_list(made)
