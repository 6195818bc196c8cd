"""torch's CUDA allocator on the job's card: with segments that expand, or with fixed ones where those can't be had."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from jobs.errors import TuneyardError
from workers.expandable_segments import asks, without

log = logging.getLogger(__name__)


class NoCuda(TuneyardError):
    """CUDA does not start on this host, whatever the job."""


@dataclass(frozen=True)
class Allocator:
    """expandable: whether its segments expand; refusal: why they don't, where they were to."""

    expandable: bool
    refusal: str = ""


def settle(device: int) -> Allocator:
    """Start CUDA on a card (CUDA's number of it), see what kind of memory comes, and have cuBLAS take its workspaces.

    A driver without virtual memory management refuses segments that expand; then they are fixed from here on. Raises
    NoCuda, and what torch raises where the card gives no memory at all.
    """
    _start(device)
    found = _segments(device)
    _take_workspaces(device)
    return found


def _segments(device: int) -> Allocator:
    settings = torch._C._accelerator_getAllocatorSettings()
    try:
        expandable = _expands(device)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if not asks(settings):
            raise
        refusal = str(error).partition("\n")[0]
        torch._C._accelerator_setAllocatorSettings(without(settings))
        expandable = _expands(device)
        return _refused(expandable, refusal)
    if asks(settings) and not expandable:
        return _refused(False, "torch made fixed ones")
    log.info("segments of torch's allocator %s", "can expand" if expandable else "are fixed")
    return Allocator(expandable)


def _start(device: int) -> None:
    if not torch.backends.cuda.is_built():
        text = (
            f"torch {torch.__version__} of this host is built without CUDA: install the build for its driver"
        )
        raise NoCuda(text)
    try:
        torch.cuda.init()
        torch.cuda.set_device(device)
    except RuntimeError as error:
        raise NoCuda(f"CUDA does not start on this host: {str(error).partition(chr(10))[0]}") from error


def _take_workspaces(device: int) -> None:
    """cuBLAS takes a workspace at the first product of each thread, autograd's among them, and keeps it.

    In the middle of a step it would be behind the loss's largest tensor, whose place is then too small for the next
    step's: a LoRA job of 31 million weights, 16 x 256 tokens, reserved 654 MiB instead of 414 (CUDA double: real
    allocator, no GPU).
    """
    ones = torch.ones(8, 8, device=f"cuda:{device}", requires_grad=True)
    (ones @ ones).sum().backward()


def _expands(device: int) -> bool:
    """What the segment of a first small tensor is; the next small ones go into it."""
    if torch.cuda.get_allocator_backend() != "native":
        torch.empty(1, device=f"cuda:{device}")
        return False
    held = torch.empty(1, device=f"cuda:{device}")
    segments = torch.cuda.memory_snapshot()
    here = [one["is_expandable"] for one in segments if one["device"] == device]
    del held
    return bool(here) and all(here)


def _refused(expandable: bool, refusal: str) -> Allocator:
    text = (
        f"segments of torch's allocator can't expand on this card ({refusal}); they are fixed, "
        "which takes more memory where rows differ in length"
    )
    log.warning("%s", text)
    return Allocator(expandable, text)
