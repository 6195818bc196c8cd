"""What the GPU benchmark runs, in which order, for how long, and what a row of its file is. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from jobs.jobfile.spec import JobSpec
from jobs.memory.rung import Rung
from jobs.units import GiB

# Architectures from 0.5B to 8B (config.json of Qwen2.5-0.5B, Llama-3.2-1B, Llama-3.2-3B and Llama-3.1-8B).
SHAPES: dict[str, dict[str, Any]] = {
    "0.5B": {
        "model_type": "qwen2",
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
        "max_position_embeddings": 32768,
    },
    "1B": {
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
        "max_position_embeddings": 131072,
    },
    "3B": {
        "model_type": "llama",
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
        "max_position_embeddings": 131072,
    },
    "8B": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
    },
}
# For rehearsals: so small that a machine without a card soon has it.
TINY: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 4096,
    "max_position_embeddings": 8192,
}
METHODS = ("full", "lora", "qlora")
RUNGS = {
    "off": Rung(0, 1),
    "every 2nd": Rung(2, 1),
    "every layer": Rung(1, 1),
    "offload": Rung(1, 1, 1, True),
}
LENGTHS = (512, 2048, 8192)
STEPS = 4
MULTIPLE, LONGEST = 256, 65536  # tokens: how finely an emulated card's edge is looked for, and how far
EMULATED = (24, 48)  # GiB of the cards that a larger one is made to be
GOALS = {"median": 0.03, "worst": 0.08, "slack": 0.10}


@dataclass(frozen=True)
class Case:
    """One process. shape: of SHAPES, or "tiny".

    limit_gib: of the emulated card, on which the length is what is looked for; 0: the whole card.
    """

    shape: str
    method: str
    rung: str
    length: int
    limit_gib: int = 0

    def spec(self, length: int | None = None) -> JobSpec:
        """The job that is trained, at this length or its own."""
        lora = {"rank": 16, "dropout": 0.05}
        return JobSpec.model_validate(
            {
                "model": {"config": SHAPES.get(self.shape, TINY), "tokenizer": "none"},
                "data": "none",
                "method": {"kind": self.method, **({} if self.method == "full" else lora)},
                "training": {"sequence_length": length or self.length, "global_batch": 1, "steps": STEPS},
            }
        )

    @property
    def profile_key(self) -> tuple[str, str]:
        """Cases that share it share a profile."""
        return (self.shape, self.method)


def cases(shapes: Iterable[str] = SHAPES, methods: Iterable[str] = METHODS) -> list[Case]:
    """Every case on the whole card: an order in which any beginning has all rungs, and soon all shapes and methods."""
    order = product(LENGTHS, shapes, methods, RUNGS)
    return [Case(shape, method, rung, length) for length, shape, method, rung in order]


def edges(shapes: Iterable[str] = SHAPES, methods: Iterable[str] = METHODS) -> list[Case]:
    """Cases that look for where an emulated card really runs out: off and every layer on each size of card."""
    order = product(EMULATED, shapes, methods, ("off", "every layer"))
    return [Case(shape, method, rung, 0, limit) for limit, shape, method, rung in order]


def taken_in_turn(first: Sequence[Case], second: Sequence[Case], ratio: int = 3) -> list[Case]:
    """`ratio` of the first for each of the second, until both are through: a short time has some of each."""
    made: list[Case] = []
    rest = list(second)
    for index, case in enumerate(first):
        made.append(case)
        if index % ratio == ratio - 1 and rest:
            made.append(rest.pop(0))
    return made + rest


@dataclass
class Budget:
    """Seconds that the whole run may take; a case is started only if one as long as the longest so far would fit."""

    seconds: float
    longest: float = field(default=0.0)

    def allows(self, spent: float) -> bool:
        return spent + self.longest < self.seconds

    def took(self, seconds: float) -> None:
        self.longest = max(self.longest, seconds)


COLUMNS = (
    *("time", "card", "card_bytes", "driver", "torch", "transformers", "trl", "peft", "bitsandbytes"),
    *("shape", "method", "rung", "length", "limit_gib", "outcome"),
    *("allocated_bytes", "reserved_bytes", "nvml_bytes", "context_bytes", "step_s"),
    *("projected_allocated_bytes", "projected_reserved_bytes", "projected_device_bytes"),
    *("projected_upper_bytes", "projected_step_s", "projected_phase"),
    *("fits_up_to_tokens", "runs_up_to_tokens", "error"),
)


def append(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> None:
    """Rows to the end of the file, with a header where it begins. Raises ValueError for a column it has not."""
    new = not path.exists() or path.stat().st_size == 0
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if new:
        writer.writeheader()
    writer.writerows(rows)
    with path.open("a", encoding="utf-8") as file:
        file.write(text.getvalue())


def sums(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How the rows compare with the goals: allocated error, false fits, slack of the upper bound.

    A false fit: a length that was said to fit and ran out, or a whole-card case whose upper bound was under the card
    and that ran out. Slack: upper bound over what NVML showed. met: None where nothing was measured.
    """
    ran = [row for row in rows if row["outcome"] == "ran" and not row["limit_gib"]]
    errors = [abs(row["projected_allocated_bytes"] / row["allocated_bytes"] - 1) for row in ran]
    slack = [row["projected_upper_bytes"] / row["nvml_bytes"] - 1 for row in ran if row["nvml_bytes"]]
    false_fits = sum(_false_fit(row) for row in rows)
    figures = {
        "compared": len(ran),
        "median": round(median(errors), 4) if errors else None,
        "worst": round(max(errors), 4) if errors else None,
        "edges": sum(bool(row["limit_gib"]) and row["outcome"] == "ran" for row in rows),
        "false_fits": false_fits,
        "slack_median": round(median(slack), 4) if slack else None,
        "slack_worst": round(max(slack), 4) if slack else None,
        "under_upper_bound": sum(value >= 0 for value in slack),
    }
    if not errors or not slack:
        return {**figures, "met": None}
    good = median(errors) <= GOALS["median"] and max(errors) <= GOALS["worst"]
    return {**figures, "met": good and not false_fits and max(slack) <= GOALS["slack"]}


def _false_fit(row: Mapping[str, Any]) -> bool:
    if row["limit_gib"]:
        return row["outcome"] == "ran" and row["fits_up_to_tokens"] > row["runs_up_to_tokens"]
    return row["outcome"] == "oom" and row["projected_upper_bytes"] <= row["card_bytes"]


def limit_share(limit_gib: int, context_bytes: int, card_bytes: int) -> float:
    """What torch's allocator may have of the card, so that with the context it is one of limit_gib.

    Raises ValueError for a card that is not larger than that.
    """
    if limit_gib * GiB >= card_bytes:
        raise ValueError(f"a card of {limit_gib} GiB can't be made of one of {card_bytes / GiB:.0f} GiB")
    return (limit_gib * GiB - context_bytes) / card_bytes
