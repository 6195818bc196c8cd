"""Rung: one step of the memory ladder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rung:
    """One step of the memory ladder.

    every_n: 0 is checkpointing off, 1 every layer, k every k-th layer; offload: what checkpointing saves is
    kept in host memory; micro_batch: sequences per GPU per forward pass; accumulation: micro-batches per
    optimizer step.
    """

    every_n: int
    micro_batch: int
    accumulation: int = 1
    offload: bool = False

    @property
    def label(self) -> str:
        names = {0: "off", 1: "every layer"}
        name = names.get(self.every_n, f"every {self.every_n} layers")
        return f"{name}{' + offload' if self.offload else ''}, {self.micro_batch}×{self.accumulation}"
