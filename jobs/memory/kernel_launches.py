"""What a training step launches: kernels that the host starts one by one, however little each has to do.

Counted on the CUDA double (torch's CUDA build, no GPU) by `make bench-launches` with transformers 5.23, TRL 1.16,
PEFT 0.21 and bitsandbytes 0.50: llama layers on an A100. Most layers of other kinds launch more, gpt2's fewer
(docs/ladder.md); optimizers of bitsandbytes one more for each trained tensor. The time of a launch can't be had from
the double.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.memory.profile import MemoryProfile
from jobs.memory.rung import Rung


@dataclass(frozen=True)
class Launches:
    """Of a micro-batch: layer, by each layer forward and backward; adding, more of each to add gradients to those of
    an earlier micro-batch; batch, by all else; again, more of each layer that is checkpointed; asked, more where any
    is, for the gradient of frozen embeddings. step: of clipping, a fused AdamW and the data of the next step."""

    layer: int
    adding: int
    batch: int
    again: int
    asked: int
    step: int

    def micro_batch(self, layers: int, rung: Rung) -> float:
        """The mean of the rung's micro-batches."""
        again = self.asked + -(-layers // rung.every_n) * self.again if rung.every_n else 0
        adding = self.adding * (1 - 1 / rung.accumulation)
        return self.batch + layers * (self.layer + adding) + again


LAUNCHES = {
    "full": Launches(layer=115, adding=9, batch=141, again=36, asked=0, step=24),
    # Rank 8 with dropout on all linear layers. Adapters are float32, which is cast for each product.
    "lora": Launches(layer=244, adding=14, batch=97, again=97, asked=34, step=25),
    # The same on nf4 with packed statistics, two kernels to unpack a weight; adapters are bfloat16.
    "qlora": Launches(layer=224, adding=14, batch=94, again=84, asked=37, step=25),
}


def launches_of(profile: MemoryProfile) -> Launches:
    """Those of the profile's method."""
    return LAUNCHES["full" if not profile.adapter_bytes else "qlora" if profile.quantised else "lora"]


def per_micro_batch(profile: MemoryProfile, rungs: Sequence[Rung]) -> list[float]:
    """Launches of one micro-batch at each rung."""
    found = launches_of(profile)
    # A forward pass without gradients launches no more than what recomputing every layer does.
    alone = (profile.reference_passes + profile.beginning_passes) * profile.layers * found.again
    return [found.micro_batch(profile.layers, rung) + alone for rung in rungs]
