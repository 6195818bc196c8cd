"""Which steps are counted: small models, for a kernel is launched once however much it has to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.jobfile.spec import JobSpec
from jobs.memory.rung import Rung

MICRO_BATCHES = 3  # the first writes gradients, the last one clips them too: the one between is counted alone
STEPS = 3
DEPTHS = (2, 5)  # layers: what one more launches is a third of the difference
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "qwen3": {"model_type": "qwen3", "head_dim": 64, "tie_word_embeddings": True},
    "gemma3": {"model_type": "gemma3_text", "head_dim": 64, "tie_word_embeddings": True},
    "gpt2": {"model_type": "gpt2", "n_embd": 256, "n_head": 4, "n_positions": 1024},
    "mixtral": {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
}
METHODS = ("full", "lora", "qlora")
CHECKPOINTING = (0, 1)
# What a job file can ask for. Of torch's AdamW transformers also has the kind that is not fused ("foreach").
OPTIMIZERS = ("adamw", "foreach", "adamw_8bit", "paged_adamw_8bit", "sgd")


@dataclass(frozen=True)
class Case:
    """One training run. every_n: activation checkpointing of every n-th layer, 0: off."""

    shape: str
    method: str
    every_n: int
    optimizer: str
    layers: int
    length: int = 128
    micro_batch: int = 1

    @property
    def rung(self) -> Rung:
        return Rung(self.every_n, self.micro_batch, MICRO_BATCHES)

    @property
    def kind(self) -> tuple[str, str, int, str]:
        """Cases of one kind differ in nothing but their depth."""
        return (self.shape, self.method, self.every_n, self.optimizer)

    def spec(self) -> JobSpec:
        """The job that is trained. "foreach" is no optimizer of a job file: its trainer is told of it."""
        depth = "n_layer" if self.shape == "gpt2" else "num_hidden_layers"
        config = {
            "hidden_size": 256,
            "intermediate_size": 512,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 4096,
            "max_position_embeddings": 1024,
            **SHAPES[self.shape],
            depth: self.layers,
        }
        adapters = {} if self.method == "full" else {"rank": 8, "dropout": 0.05}
        optimizer = "adamw" if self.optimizer == "foreach" else self.optimizer
        return JobSpec.model_validate(
            {
                "model": {"config": config, "tokenizer": "none"},
                "data": "none",
                "method": {"kind": self.method, **adapters},
                "training": {
                    "sequence_length": self.length,
                    "global_batch": self.micro_batch * MICRO_BATCHES,
                    "steps": STEPS,
                    "optimizer": optimizer,
                },
            }
        )


def kinds() -> Iterator[tuple[str, str, int, str]]:
    """Every method and rung of a llama; its optimizers; and the other shapes."""
    for method in METHODS:
        for every_n in CHECKPOINTING:
            yield ("llama", method, every_n, "adamw")
    for method in ("full", "lora"):
        for optimizer in OPTIMIZERS[1:]:
            yield ("llama", method, 0, optimizer)
    for shape in list(SHAPES)[1:]:
        yield (shape, "full", 0, "adamw")
        if shape not in ("gpt2", "mixtral"):  # PEFT 0.21 takes no dropout on adapters of experts
            yield (shape, "lora", 1, "adamw")


def cases() -> list[Case]:
    return [Case(*kind, layers) for kind in kinds() for layers in DEPTHS]


@dataclass(frozen=True)
class Line:
    """Launches: of all but the layers, and of each layer."""

    fixed: float
    layer: float

    def at(self, layers: int) -> float:
        return self.fixed + self.layer * layers


def line(shallow: tuple[int, float], deep: tuple[int, float]) -> Line:
    """The line through the counts of two depths: (layers, launches) of each."""
    layer = (deep[1] - shallow[1]) / (deep[0] - shallow[0])
    return Line(shallow[1] - layer * shallow[0], layer)


def parts(counts: Mapping[int, Mapping[str, int]]) -> dict[str, Line]:
    """The line of each part, from counts by depth."""
    shallow, deep = sorted(counts)
    return {
        name: line((shallow, counts[shallow][name]), (deep, counts[deep][name])) for name in counts[shallow]
    }
