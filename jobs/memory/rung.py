"""Rung: one step of the memory ladder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rung:
    """One step of the memory ladder.

    every_n: 0 is checkpointing off, 1 every layer, k every k-th layer; offload: what checkpointing saves is
    kept in host memory; micro_batch: sequences (or pairs of them) per GPU per forward pass; accumulation: micro-batches
    per optimizer step; precompute: what the reference says of the rows is worked out before training, and no reference
    is held.
    """

    every_n: int
    micro_batch: int
    accumulation: int = 1
    offload: bool = False
    precompute: bool = False

    @property
    def label(self) -> str:
        names = {0: "off", 1: "every layer"}
        name = names.get(self.every_n, f"every {self.every_n} layers")
        more = f"{' + offload' if self.offload else ''}{' + precompute' if self.precompute else ''}"
        return f"{name}{more}, {self.micro_batch}×{self.accumulation}"
