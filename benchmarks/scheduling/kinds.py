"""Memory profiles that the benchmark draws jobs from: `python -m benchmarks.scheduling.kinds` traces them again.

Real model shapes from 1B to 14B parameters under full fine-tuning, LoRA and QLoRA; CUDA passes alone, for size.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.jobfile.spec import JobSpec
from jobs.memory.profile import MemoryProfile

FOLDER = Path(__file__).with_name("profiles")
LORA: dict[str, Any] = {"kind": "lora", "rank": 16, "dropout": 0.05}
QLORA: dict[str, Any] = {"kind": "qlora", "rank": 16, "dropout": 0.05}


def _shape(
    kind: str, hidden: int, inner: int, layers: int, heads: int, kv: int, vocab: int, **more: Any
) -> dict[str, Any]:
    return {
        "model_type": kind,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocab,
        "max_position_embeddings": 32768,
        **more,
    }


# The published shapes of Llama 3.2 1B and 3B, Mistral 7B v0.3, Llama 3.1 8B, Qwen 2.5 14B.
SHAPES = {
    "1B": _shape("llama", 2048, 8192, 16, 32, 8, 128256, tie_word_embeddings=True),
    "3B": _shape("llama", 3072, 8192, 28, 24, 8, 128256, tie_word_embeddings=True),
    "7B": _shape("mistral", 4096, 14336, 32, 32, 8, 32768),
    "8B": _shape("llama", 4096, 14336, 32, 32, 8, 128256),
    "14B": _shape("qwen2", 5120, 13824, 48, 40, 8, 152064),
}
METHODS: dict[str, Any] = {"full": "full", "lora": LORA, "qlora": QLORA}
KINDS = (
    *(("1B", "full"), ("1B", "lora"), ("3B", "full"), ("3B", "lora"), ("7B", "lora"), ("7B", "qlora")),
    *(("8B", "lora"), ("8B", "qlora"), ("14B", "lora"), ("14B", "qlora")),
)


@dataclass(frozen=True)
class Kind:
    """A model shape trained in one way."""

    shape: str
    method: str
    profile: MemoryProfile


def spec_of(
    shape: str,
    method: str,
    sequence_length: int,
    batch: int,
    gpus: int = 1,
    memory: dict[str, Any] | None = None,
) -> JobSpec:
    """A job of this kind. memory: its section of the job file."""
    return JobSpec.model_validate(
        {
            "model": {"config": SHAPES[shape], "tokenizer": "none"},
            "data": "none",
            "method": METHODS[method],
            "training": {"sequence_length": sequence_length, "global_batch": batch},
            "resources": {"gpus": gpus},
            "memory": memory or {},
        }
    )


def kinds() -> list[Kind]:
    """Every kind that is stored."""
    return [
        Kind(shape, method, MemoryProfile.from_dict(json.loads(_file(shape, method).read_text())))
        for shape, method in KINDS
    ]


def _file(shape: str, method: str) -> Path:
    return FOLDER / f"{shape}-{method}.json"


def main() -> None:
    """Trace every kind again."""
    from workers.profiler.trace import trace  # here: torch, which reading the stored ones does without

    for shape, method in KINDS:
        made = trace(spec_of(shape, method, 2048, 16), []).as_dict()
        made["passes"] = {name: found for name, found in made["passes"].items() if name.startswith("cuda.")}
        path = _file(shape, method)
        path.write_text(json.dumps(made, separators=(",", ":")) + "\n")
        print(f"{path.name}: {path.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main()
