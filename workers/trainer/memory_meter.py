"""What a trainer takes: memory of its card, and the limit that makes a CPU card's memory real."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from jobs.cards import card_for, roomy
from jobs.messages.reports import GpuInfo
from workers.gpus import process_bytes
from workers.trainer.allocator import Allocator

log = logging.getLogger(__name__)

_STATUS = "/proc/self/status"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Each look takes 60 us from a training thread. Every step has the same peaks: once some have passed, fewer looks a step
# find them as surely.
LOOK_EVERY_S = 0.01
LATER_EVERY_S = 0.03
FINE_S = 10.0


@dataclass(frozen=True)
class Peaks:
    """Highest values so far, in bytes. allocated and reserved are torch's, on CUDA only."""

    allocated_bytes: int | None
    reserved_bytes: int | None
    device_bytes: int


class Meter:
    """Reads the memory peaks of this process on its card, from the moment it is made."""

    def __init__(self, card: GpuInfo, shared: bool = False) -> None:
        """shared: other processes may be on the card, and what they hold is not ours."""
        self._cuda = card.kind == "cuda"
        self._card, self._shared = card, shared
        self._highest = 0
        self.allocator: Allocator | None = None  # of a CUDA card, once that is known
        if not self._cuda:
            _settle_threads()
            self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
            self._taken_before = self._writable_bytes()
            threading.Thread(target=self._watch, name="meter", daemon=True).start()
            # Its own stack (8 MiB) is not the job's.
            self._taken_before, self._highest = self._writable_bytes(), 0
        self.baseline_bytes = status_bytes("VmRSS")

    @property
    def expandable(self) -> bool | None:
        """Whether torch's segments can expand on this card; None: not CUDA, or not known yet."""
        return None if self.allocator is None else self.allocator.expandable

    def read(self) -> Peaks:
        if not self._cuda:
            self._look()
            return Peaks(None, None, self._highest)
        if not torch.cuda.is_initialized():
            return Peaks(0, 0, 0)
        # The caching allocator gives nothing back while it trains, so what is used now is the peak.
        self._highest = max(self._highest, self._held_bytes())
        return Peaks(torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved(), self._highest)

    def forget(self) -> None:
        """The highest values are those from here on."""
        self._highest = 0
        if self._cuda and torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """What this block takes is not the job's, what it keeps neither: Ray's threads, of 8 MiB each, for instance.

        On a CPU card the limit is raised by what it keeps.
        """
        if self._cuda:
            yield
            return
        before, highest = self._writable_bytes(), self._highest
        try:
            yield
        finally:
            kept = max(0, self._writable_bytes() - before)
            self._taken_before, self._highest = self._taken_before + kept, highest
            soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
            if soft != resource.RLIM_INFINITY:
                resource.setrlimit(resource.RLIMIT_DATA, (soft + kept, hard))

    def _held_bytes(self) -> int:
        """What is held of the card now: all of it is ours, or NVML can tell what is, or it is worked out."""
        if not self._shared:
            try:
                free, total = torch.cuda.mem_get_info()
            except RuntimeError as error:  # of a card that failed nothing more is to be learnt
                log.warning("the card's memory can't be read: %s", str(error).partition("\n")[0])
                return 0
            return total - free
        known = process_bytes(self._card.uuid, os.getpid())
        return torch.cuda.memory_reserved() + _context_bytes(self._card) if known is None else known

    def _look(self) -> None:
        self._highest = max(self._highest, self._writable_bytes() - self._taken_before)

    def _watch(self) -> None:
        """The kernel keeps no peak of what RLIMIT_DATA counts.

        A look is one call: each call of this thread gives up the interpreter, which the training thread then waits
        to have again.
        """
        fine_until = time.monotonic() + FINE_S
        while True:
            self._look()
            time.sleep(LOOK_EVERY_S if time.monotonic() < fine_until else LATER_EVERY_S)

    def _writable_bytes(self) -> int:
        """Private writable memory of this process: what a CPU card's limit counts (proc_pid_statm(5), field 6)."""
        return int(os.pread(self._statm, 128, 0).split()[5]) * _PAGE_BYTES


@contextlib.contextmanager
def card_limit(card: GpuInfo, upper_bytes: int = 0, shared: bool = False, device: int = 0) -> Iterator[None]:
    """Hold this process to a CPU card's memory on top of what it has now; a CUDA card has its own limit.

    upper_bytes: what the job is projected to stay under, 0 if that is not known. On a card that is roomy for it malloc
    is left alone. shared: others may be on the card, and upper_bytes are this job's share of it: it runs out of that,
    and harms nobody. device: CUDA's number of the card.

    RLIMIT_DATA (setrlimit(2)) counts private writable mappings, which is what torch allocates from. Only the
    soft limit is set, so that it can be lifted for the outcome to be written.
    """
    if card.kind == "cuda":
        if shared and upper_bytes:
            total = torch.cuda.mem_get_info(device)[1]
            torch.cuda.set_per_process_memory_fraction(cuda_fraction(card, upper_bytes, total), device)
        yield
        return
    has = upper_bytes if shared and upper_bytes else card.memory_bytes
    for name in _FEW_PRIMITIVES:
        os.environ.setdefault(name, "8")
    if not roomy(has, upper_bytes):
        _give_back_what_is_freed()
    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (status_bytes("VmData") + has, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, hard))


def cuda_fraction(card: GpuInfo, upper_bytes: int, total_bytes: int) -> float:
    """What torch may reserve of a card with total_bytes for a process that may hold upper_bytes of it in all.

    Torch's limit (set_per_process_memory_fraction) does not count the context, which is in upper_bytes too.
    """
    return min(1.0, max(0, upper_bytes - _context_bytes(card)) / total_bytes)


def _context_bytes(card: GpuInfo) -> int:
    return card_for(card.kind, card.name, card.memory_bytes).context_bytes


def status_bytes(field: str) -> int:
    """A size in /proc/self/status (proc_pid_status(5)), in bytes."""
    with open(_STATUS) as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise KeyError(f"{_STATUS} has no {field}")


def set_threads(ranks: int = 1) -> None:
    """Let torch use what TUNEYARD_CPU_THREADS says; otherwise its own default, shared by `ranks` CPU cards."""
    wanted = os.environ.get("TUNEYARD_CPU_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        torch.set_num_threads(int(wanted))
    elif ranks > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // ranks))


# mallopt(3): M_MMAP_THRESHOLD. Left alone, glibc raises it to 32 MiB and keeps freed tensors in heaps that fragment:
# the same job then takes 80 to 420 MiB more than its tensors, differently from run to run and more with each step, and
# no projection could say that it fits. The price is speed: pages of larger tensors are faulted in again each time.
# So it is done only where the card is tight. From 8 MiB on instead of 1 MiB, the job of benchmarks/start.py
# lost no speed in place of a sixth, but the demo's squeezed job on two threads took 569 MiB (one run; upper
# bound 531). Large pages (THP_MEM_ALLOC_ENABLE) are slower still.
_M_MMAP_THRESHOLD = -3
_MAPPED_FROM_BYTES = 1 << 20


# oneDNN keeps 1,024 of the products that it made ready, each with buffers for one shape, and rows of varying length
# bring new shapes with each batch. LoRA on a llama of 8 layers (hidden 256, 4 x 256 tokens, bfloat16, every 2nd layer
# checkpointed; projected 402 MiB) took 606 MiB after 5 steps and ran out of 700 in the 8th. With 32 kept it took 459,
# with 8 404 to 415, with 1 404 and twice as long; 8 took no longer than 1,024.
# Torch's way to it (ideep) keeps 1,024 of its own, whatever oneDNN forgets. Of LoRA on a llama of 8 layers (hidden 256,
# 2 x 30 to 128 tokens, bfloat16) they held 4 MiB more after each step, without an end; with 8 kept nothing grew, and 16
# steps took as long. Rows of one length show none of it.
_FEW_PRIMITIVES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")


def _give_back_what_is_freed() -> None:
    """Have malloc map each block of 1 MiB and more by itself, so that what is freed is free."""
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)


def _settle_threads() -> None:
    """Start the compute threads before the baseline: their stacks (8 MiB each) are not the job's memory."""
    a = torch.ones(256, 256, requires_grad=True)
    (a @ a).sum().backward()
    torch.ones(1 << 20).add_(1)
