"""What TRL's trainers say of their steps beside the loss: told in the log, and from where to where in the summary."""

from __future__ import annotations

import logging
import math
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

log = logging.getLogger(__name__)


class Metrics(TrainerCallback):
    """Follows these metrics, by the names that TRL gives them."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        said = {name: float(logs[name]) for name in self._names if logs and name in logs}
        if not said:
            return
        log.info(
            "step %d: %s", state.global_step, ", ".join(f"{name} {one:.4f}" for name, one in said.items())
        )
        for name, value in said.items():
            if math.isfinite(value):
                self._first.setdefault(name, value)
                self._last[name] = value

    def __str__(self) -> str:
        """From where to where each went; empty where nothing was said."""
        return "".join(
            f", {name} {first:.3f} to {self._last[name]:.3f}" for name, first in self._first.items()
        )
