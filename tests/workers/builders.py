"""Small real inputs for trainers: a Llama-shaped config, a byte-level BPE tokenizer, rows, an assignment."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from jobs.jobfile.spec import parse_spec
from jobs.memory.project import Rung
from jobs.messages.reports import Assignment, GpuInfo
from jobs.units import GiB
from workers.attempt_folder import AttemptFolder

VOCABULARY = 320
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TINY = {
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def make_tokenizer(folder: Path, template: str | None = CHAT_TEMPLATE) -> Path:
    """A byte-level BPE tokenizer trained on a few sentences."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<eos>", "<pad>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    made.train_from_iterator([question(i) + answer(i) for i in range(50)], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>", pad_token="<pad>")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def question(i: int) -> str:
    return f"What comes after {i}?"


def answer(i: int) -> str:
    return f" The number after {i} is {i + 1}."


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prompt_rows(count: int = 64) -> list[dict[str, Any]]:
    return [{"prompt": question(i), "completion": answer(i)} for i in range(count)]


def make_assignment(
    data: Path,
    tokenizer: Path,
    *,
    attempt_id: int = 1,
    job_id: int = 1,
    rung: Rung | None = None,
    memory_bytes: int = 8 * GiB,
    rank: int = 0,
    world_size: int = 1,
    master_port: int = 0,
    trusted_models: list[str] | None = None,
    holdout: float = 0.0,
    **sections: Any,
) -> Assignment:
    """An attempt on CPU cards. sections: what the test says of the job file (model, method, training)."""
    training = {
        "steps": 4,
        "sequence_length": 32,
        "global_batch": 4,
        "learning_rate": 1e-2,
        "warmup_ratio": 0.0,
    }
    spec = {
        "model": {
            "config": TINY,
            "tokenizer": str(tokenizer),
            "dtype": "float32",
            **sections.pop("model", {}),
        },
        "data": {"path": str(data), "holdout": holdout},
        "method": "full",
        "resources": {"gpus": world_size},
        **sections,
        "training": {**training, **sections.get("training", {})},
    }
    cards = [
        GpuInfo(uuid=f"cpu-test-{i}", index=i, kind="cpu", name="cpu", memory_bytes=memory_bytes)
        for i in range(world_size)
    ]
    return Assignment(
        attempt_id=attempt_id,
        job_id=job_id,
        number=attempt_id,
        spec=parse_spec(spec),
        rung=rung or Rung(0, 2, accumulation=2 // world_size),
        gpus=cards,
        host="test",
        rank=rank,
        world_size=world_size,
        master_port=master_port,
        trusted_models=trusted_models or [],
    )


def claimed(home: Path, assignment: Assignment) -> AttemptFolder:
    """The attempt's folder, as a trainer finds it."""
    folder = AttemptFolder(home, assignment.attempt_id)
    assert folder.claim(assignment)
    return folder
