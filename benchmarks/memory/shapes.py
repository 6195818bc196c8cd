"""Architectures of a models file, jobs that train them, and a card that adds nothing to live bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jobs.cards import Card, CardKind
from jobs.jobfile.spec import JobSpec

# Published architectures by name, each value with its source.
CONFIGS = Path(__file__).with_name("model_configs.json")
# What the models file calls by other names than transformers does, and what it has for reference only.
RENAMED = {"max_position": "max_position_embeddings"}
SHAPE_KEYS = (
    "model_type hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
    "vocab_size tie_word_embeddings sliding_window max_position attention_bias "
    "num_experts num_experts_per_tok moe_intermediate_size"
)
EXPERT_KEYS = {
    "mixtral": {"num_experts": "num_local_experts"},
    "gpt_oss": {"num_experts": "num_local_experts"},
}
# `memory` of a job: what the ladder chooses, every layer (TRL's default), and checkpointing off.
WAYS: dict[str, dict[str, Any]] = {
    "choice": {},
    "always": {"checkpointing": "every_layer", "offload": False},
    "never": {"checkpointing": "off", "offload": False},
}


def listed(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Architectures of a models file, dense or with experts; those without a model_type are left out."""
    return [
        (name, architecture(entry))
        for name, entry in json.loads(path.read_text()).items()
        if entry.get("model_type")
    ]


def architecture(entry: dict[str, Any]) -> dict[str, Any]:
    """One entry of a models file under the names that transformers has for its values."""
    renamed = RENAMED | EXPERT_KEYS.get(entry.get("model_type", ""), {})
    return {renamed.get(k, k): entry[k] for k in SHAPE_KEYS.split() if entry.get(k) is not None}


def shapes(path: Path, largest: float) -> dict[str, dict[str, Any]]:
    """Architectures by name, of at most this many parameters."""
    entries = json.loads(path.read_text())
    return {
        name: config
        for name, config in listed(path)
        if 0 < (entries[name].get("param_count_from_transformers_5_23_meta") or 0) <= largest
    }


def job(
    config: dict[str, Any],
    method: Any,
    *,
    model: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    memory: dict[str, Any] | None = None,
    holdout: float = 0.0,
    trainer: str = "sft",
) -> JobSpec:
    """A job with this architecture and method. model, training, memory: more of these sections; holdout: of data."""
    # Gemma 2 caps its attention logits, which only eager attention can do.
    attention = "eager" if config["model_type"] == "gemma2" else "sdpa"
    return JobSpec.model_validate(
        {
            "model": {"config": config, "tokenizer": "none", "attention": attention, **(model or {})},
            "data": {"path": "none", "holdout": holdout},
            "method": method,
            "trainer": trainer,
            "training": {"sequence_length": 512, **(training or {})},
            "memory": memory or {},
        }
    )


def bare(kind: CardKind) -> Card:
    """A card on which nothing is counted but live tensors."""
    return Card("bare", 1, 1e12, 1e14, 0, "live bytes alone", kind)
