"""Architectures from 31M to 14B that the sweep trains, in two halves: terms are fitted on one, judged on the other."""

from __future__ import annotations

from typing import Any

_KEYS = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "tie_word_embeddings",
)
# From each model's config.json, except Llama-31M, with a vocabulary of bytes. Every second one is for fitting.
_ROWS: tuple[tuple[Any, ...], ...] = (
    ("gpt2", "gpt2", 768, 3072, 12, 12, 12, 64, 50257, True),
    ("SmolLM2-135M", "llama", 576, 1536, 30, 9, 3, 64, 49152, True),
    ("SmolLM2-360M", "llama", 960, 2560, 32, 15, 5, 64, 49152, True),
    ("Qwen2.5-0.5B", "qwen2", 896, 4864, 24, 14, 2, 64, 151936, True),
    ("Qwen3-0.6B", "qwen3", 1024, 3072, 28, 16, 8, 128, 151936, True),
    ("TinyLlama-1.1B", "llama", 2048, 5632, 22, 32, 4, 64, 32000, False),
    ("Llama-3.2-1B", "llama", 2048, 8192, 16, 32, 8, 64, 128256, True),
    ("Qwen2.5-1.5B", "qwen2", 1536, 8960, 28, 12, 2, 128, 151936, True),
    ("gpt2-xl", "gpt2", 1600, 6400, 48, 25, 25, 64, 50257, True),
    ("SmolLM2-1.7B", "llama", 2048, 8192, 24, 32, 32, 64, 49152, True),
    ("Qwen2.5-3B", "qwen2", 2048, 11008, 36, 16, 2, 128, 151936, True),
    ("Llama-3.2-3B", "llama", 3072, 8192, 28, 24, 8, 128, 128256, True),
    ("Phi-3-mini", "phi3", 3072, 8192, 32, 32, 32, 96, 32064, False),
    ("Qwen3-4B", "qwen3", 2560, 9728, 36, 32, 8, 128, 151936, True),
    ("Llama-2-7B", "llama", 4096, 11008, 32, 32, 32, 128, 32000, False),
    ("Mistral-7B", "mistral", 4096, 14336, 32, 32, 8, 128, 32768, False),
    ("Qwen2.5-7B", "qwen2", 3584, 18944, 28, 28, 4, 128, 152064, False),
    ("Llama-3.1-8B", "llama", 4096, 14336, 32, 32, 8, 128, 128256, False),
    ("Qwen3-8B", "qwen3", 4096, 12288, 36, 32, 8, 128, 151936, False),
    ("OLMo-2-13B", "olmo2", 5120, 13824, 40, 40, 40, 128, 100352, False),
    ("Qwen3-14B", "qwen3", 5120, 17408, 40, 40, 8, 128, 151936, False),
    ("Qwen2.5-14B", "qwen2", 5120, 13824, 48, 40, 8, 128, 152064, False),
    # Small ones: what does not shrink with a model weighs most there.
    ("Llama-68M", "llama", 768, 3072, 2, 12, 12, 64, 32000, False),
    ("Llama-31M", "llama", 512, 1376, 8, 4, 2, 128, 320, False),
)
POSITIONS = {"gpt2": 1024}  # learned ones: no longer sequence can be trained
LONGEST = 32768
FITTED = tuple(row[0] for row in _ROWS[::2])
JUDGED = tuple(row[0] for row in _ROWS[1::2])


def longest(name: str) -> int:
    """The longest sequence in tokens that this shape takes."""
    return POSITIONS.get(SHAPES[name]["model_type"], LONGEST)


def _config(row: tuple[Any, ...]) -> dict[str, Any]:
    config = dict(zip(_KEYS, row[1:], strict=True))
    if config["model_type"] == "gpt2":
        names = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}
        made = {names[key]: value for key, value in config.items() if key in names}
        own = {"vocab_size": config["vocab_size"], "n_positions": POSITIONS["gpt2"], "attn_pdrop": 0.0}
        return {"model_type": "gpt2", **made, **own}
    config["max_position_embeddings"] = LONGEST
    if config["model_type"] == "mistral":
        config["sliding_window"] = None
    if config["model_type"] == "phi3":
        config |= {"sliding_window": None, "pad_token_id": 0}
    return config


SHAPES: dict[str, dict[str, Any]] = {row[0]: _config(row) for row in _ROWS}


def with_depth(config: dict[str, Any], layers: int) -> dict[str, Any]:
    """The same architecture with so many layers; 0: its own number."""
    key = "n_layer" if config["model_type"] == "gpt2" else "num_hidden_layers"
    return {**config, key: layers} if layers else config
