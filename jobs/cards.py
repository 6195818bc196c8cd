"""The card catalogue: memory as NVML reports it, bandwidth, arithmetic, what a process takes beside its tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jobs.profile import CardKind
from jobs.units import GiB, MiB


@dataclass(frozen=True)
class Card:
    """One type of card.

    memory_bytes: all of it, as NVML reports it; bandwidth_bytes_s: of that memory; flops: dense bfloat16 operations a
    second that training reaches (a share of the data sheet's, see EFFICIENCY); context_bytes: what the driver and libraries take
    on the card for one process, before any tensor; distributed_bytes: more of it when ranks talk to each other;
    reserve_bytes + reserve_share x moving bytes: what the allocator holds beyond live tensors.
    """

    name: str
    memory_bytes: int
    bandwidth_bytes_s: float
    flops: float
    context_bytes: int
    source: str
    kind: CardKind = "cuda"
    distributed_bytes: int = 0
    reserve_bytes: int = 0
    reserve_share: float = 0.0

    def reserve(self, live: float, idle: float) -> int:
        return round(self.reserve_bytes + self.reserve_share * live)


def card_for(kind: str, name: str, memory_bytes: int) -> Card:
    """PROVISIONAL (lead): the memory room replaces this with the catalogue and measured CPU reserve."""
    if kind == "cpu":
        return Card("cpu", memory_bytes, 10e9, 5e10, 60 * MiB, "provisional", "cpu", reserve_share=0.1)
    return Card(name, memory_bytes, 500e9, 1e14, GiB, "provisional", "cuda", reserve_share=0.05)
