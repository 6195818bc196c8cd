"""The card that this process trains on, and what others hold of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import torch

from jobs.cards import Card, card_for, read_card
from jobs.errors import UsageError
from jobs.units import gib
from workers.expandable_segments import asks
from workers.gpus import process_bytes


@dataclass(frozen=True)
class Here:
    """card: its memory_bytes are what this process can have; others_bytes: what other processes hold of the card;
    uuid: of a CUDA card that is there; live: it is the one that this process trains on."""

    card: Card
    others_bytes: int
    live: bool
    uuid: str = ""


def card_here(config: Any, named: str | None) -> Here:
    """The card of the config's device, or the named one. Raises UsageError where there is none to project for."""
    device = config.device
    if named is not None:
        card = read_card(named)
        if card.kind == "cuda":
            card = replace(card, expandable=_expandable())
        return Here(card, 0, live=card.kind == "cpu" and device.type == "cpu")
    if device.type != "cuda":
        what = "this process trains on the CPU" if device.type == "cpu" else f"{device.type} is not projected"
        raise UsageError(
            f"{what}; name a card: card='rtx4090' of the catalogue, or card='cpu:4GiB' to hold it to that"
        )
    known = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    card = replace(card_for("cuda", known.name, total), expandable=_expandable())
    uuid = f"GPU-{known.uuid}"
    # The context of this process is there by now, and grows with the kernels that it loads.
    ours = process_bytes(uuid, os.getpid())
    if ours is None:
        ours = torch.cuda.memory_reserved(device) + card.context_bytes
    others = max(0, total - free - ours)
    if total - others <= card.context_bytes:
        raise UsageError(
            f"other processes hold {gib(others)} of the {gib(total)} of {known.name}: end them first"
        )
    return Here(replace(card, memory_bytes=total - others), others, live=True, uuid=uuid)


def _expandable() -> bool:
    """Whether torch's allocator of this process was asked for segments that expand."""
    return asks(torch._C._accelerator_getAllocatorSettings())
