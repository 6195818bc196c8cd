"""How near to its limit a card's memory has come."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Protocol

import torch
from torch import nn

from jobs.messages.reports import GpuInfo
from jobs.units import gib
from workers.fit.card import Here
from workers.trainer.memory_meter import Meter, card_limit

NEAR = 0.98  # of the card: what a step more may take is within what steps differ by


class Room(Protocol):
    """The memory that a training has."""

    def near(self) -> str:
        """In words, how its memory came near the limit since the last forget(); empty where it did not."""

    def forget(self) -> None:
        """Look at what comes from here on."""

    def close(self) -> None:
        """Lift what limit there was."""


def room_on(here: Here, model: nn.Module, upper_bytes: int) -> Room:
    """upper_bytes: what the training is projected to stay under."""
    return CudaRoom(here) if here.card.kind == "cuda" else CpuRoom(here, model, upper_bytes)


class CudaRoom:
    """A CUDA card by torch's allocator, which empties its cache and asks again before it gives up."""

    def __init__(self, here: Here) -> None:
        self._device = torch.cuda.current_device()
        self._limit = here.card.memory_bytes + here.others_bytes
        self.forget()

    def near(self) -> str:
        again = self._retries() - self._retried
        if again:
            return f"the allocator had to empty its cache to find memory ({again}x in a step)"
        free, total = torch.cuda.mem_get_info(self._device)
        beside = total - free - torch.cuda.memory_reserved(self._device)
        highest = beside + torch.cuda.max_memory_allocated(self._device)
        return f"{gib(highest)} of {gib(total)} were in use" if highest > NEAR * total else ""

    def forget(self) -> None:
        self._retried = self._retries()
        torch.cuda.reset_peak_memory_stats(self._device)

    def close(self) -> None:
        """The card has its own limit."""

    def _retries(self) -> int:
        return int(torch.cuda.memory_stats(self._device).get("num_alloc_retries", 0))


class CpuRoom:
    """A share of the host's memory, to which this process is held. What the model takes already counts."""

    def __init__(self, here: Here, model: nn.Module, upper_bytes: int) -> None:
        tensors: dict[int, Any] = {one.data_ptr(): one for one in (*model.parameters(), *model.buffers())}
        held = sum(one.untyped_storage().nbytes() for one in tensors.values())
        self._has = here.card.memory_bytes - held
        info = GpuInfo(uuid="cpu-here", index=0, kind="cpu", name="cpu", memory_bytes=max(0, self._has))
        self._meter, self._held = Meter(info), held
        self._limit = ExitStack()
        self._limit.enter_context(card_limit(info, max(0, upper_bytes - held)))

    def near(self) -> str:
        highest, has = self._meter.read().device_bytes + self._held, self._has + self._held
        return f"{gib(highest)} of {gib(has)} were in use" if highest > NEAR * has else ""

    def forget(self) -> None:
        self._meter.forget()

    def close(self) -> None:
        self._limit.close()
