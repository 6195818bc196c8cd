"""What `trainer` of a job file can be: what its rows hold, and what a job is trained with that says nothing of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

PAIR = ("chosen", "rejected")
PROMPTED = ("prompt", *PAIR)


@dataclass(frozen=True)
class Facts:
    """columns: of a row, by how much they say, the first that is there whole counts; learning_rate: TRL 1.16's
    default, None: training.learning_rate's own; pairs: two sequences to a row; reference: a frozen model beside."""

    columns: tuple[tuple[str, ...], ...]
    learning_rate: float | None = None
    pairs: bool = False
    reference: bool = False


TRAINERS: Mapping[str, Facts] = {
    "sft": Facts((("prompt", "completion"), ("messages",), ("text",))),
    "dpo": Facts((PROMPTED, PAIR), 1e-6, pairs=True, reference=True),
    "kto": Facts((("prompt", "completion", "label"),), 1e-6, reference=True),
    "reward": Facts((PROMPTED, PAIR), 1e-4, pairs=True),
}
LATER = ("rloo", "grpo", "distillation")


def _offered(value: Any) -> Any:
    if value in LATER:
        raise ValueError(f"is not there yet: use {', '.join(TRAINERS)}")
    return value


Trainer = Annotated[Literal["sft", "dpo", "kto", "reward"], BeforeValidator(_offered)]


def suited(columns: Mapping[str, Any] | tuple[str, ...]) -> list[str]:
    """Trainers that rows with these columns suit."""
    return [
        name for name, facts in TRAINERS.items() if any(set(kind) <= set(columns) for kind in facts.columns)
    ]
