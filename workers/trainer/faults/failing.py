"""Why a trainer ended with an exception: memory that ran out, a card, a host, a folder, another rank, or the job."""

from __future__ import annotations

import re
import time
import traceback

import torch

from jobs.errors import InputError, TuneyardError, Unavailable, words_of
from jobs.messages.reports import Assignment, Ended
from jobs.state import Outcome
from jobs.units import gib
from workers.attempt_folder import AttemptFolder
from workers.checkpoints import disk_space
from workers.trainer.allocator import NoCuda
from workers.trainer.callbacks import Figures
from workers.trainer.finite import NotFinite
from workers.trainer.ranks import rank_watch, rendezvous

PEER_S = 5.0  # for a rank that failed to say so
# How torch, cuBLAS, cuDNN, Triton, NCCL, oneDNN, the C++ library and mmap(2) say that memory ran out, without a type
# for it.
_OUT_OF_MEMORY = re.compile(
    r"DefaultCPUAllocator: can't allocate memory|CUDA (?:driver )?error: out of memory"
    r"|CU(?:BLAS|DNN)_STATUS_ALLOC_FAILED|Triton Error \[CUDA\]: out of memory|Cuda failure (?:2 )?'out of memory'"
    r"|could not create a memory object|std::bad_alloc|Cannot allocate memory"
)
_CUDA_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
# Of CUDA's errors (driver_types.h of CUDA 13, enum cudaError) those that no job brings about, whatever it computes.
_CARD_ERRORS = {
    46: "it is in use by another process, or in a mode that lets none in",  # cudaErrorDevicesUnavailable
    214: "its memory has an error that can't be corrected",  # cudaErrorECCUncorrectable
    220: "its NVLink has an error that can't be corrected",  # cudaErrorNvlinkUncorrectable
    721: "its memory has an error that only this process saw",  # cudaErrorContained
    999: "the driver does not know what is wrong with it",  # cudaErrorUnknown: what a lost card gives
}
# Libraries that only say that they failed, not of what: the card is asked.
_LIBRARY_ERROR = re.compile(r"CU(?:BLAS|DNN|SOLVER|SPARSE)_STATUS_|cuDNN (?:error|Frontend error)|NCCL error")
_WANTED = re.compile(r"Tried to allocate ([\d.]+ \w+)\.")


def failure(error: Exception, figures: Figures, assignment: Assignment, folder: AttemptFolder) -> Ended:
    """How an attempt ends that raised this."""
    if not isinstance(error, TuneyardError):
        traceback.print_exception(error)
    words = words_of(error)
    if ran_out_of_memory(error):
        where = f"in step {figures.steps + 1}" if figures.steps else "before the end of the first step"
        text = f"memory ran out {where} on {_card(assignment)}: {what_ran_out(error, words)}"
        of_host = only_host_memory(error)
        text += "; that is memory of Python's own, no tensor's" if of_host else ""
        return figures.ended(ts=time.time(), outcome=Outcome.OOM, message=text, host_memory=of_host)
    if isinstance(error, NoCuda):
        return figures.ended(ts=time.time(), outcome=Outcome.HOST_FAULT, message=str(error))
    if (fault := card_fault(error)) is not None:
        card = assignment.card
        text = f"{card.name} {card.uuid} failed after step {figures.steps}: {fault}"
        return figures.ended(ts=time.time(), outcome=Outcome.LOST, message=text)
    ours = isinstance(error, TuneyardError)
    if isinstance(error, disk_space.NoStorage):
        figures.measured = bool(figures.step_times)
        return figures.ended(ts=time.time(), outcome=Outcome.STORAGE, message=str(error))
    if not ours and (said := disk_space.full(error)):
        text = f"{said[0].lower()}{said[1:]} on this host after step {figures.steps}: {words}"
        return figures.ended(ts=time.time(), outcome=Outcome.STORAGE, message=text)
    if assignment.local_rank == 0 and len(assignment.ranks_here) > 1 and not ours:
        # A collective fails here when another rank has failed: that one knows why.
        peer = rank_watch.wait_for_failed_peer(folder, assignment, PEER_S)
        if peer is not None:
            return figures.ended(ts=time.time(), **rank_watch.as_mine(assignment, *peer))
    if isinstance(error, NotFinite):
        return figures.ended(ts=time.time(), outcome=Outcome.DIVERGED, message=str(error))
    bad_input = isinstance(error, InputError) and not error.missing
    text = error.line if isinstance(error, InputError) else str(error) if ours else words
    echo = assignment.spans and not ours and rendezvous.lost_touch(error)
    hosts = isinstance(error, (rendezvous.NobodyCame, Unavailable))  # fault: none of the job's retries
    outcome = Outcome.NOT_STARTED if hosts else Outcome.FAILED
    return figures.ended(ts=time.time(), outcome=outcome, message=text, echo=echo, bad_input=bad_input)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether this, or what caused it, is memory that ran out."""
    for seen in _causes(error):
        if isinstance(seen, (torch.OutOfMemoryError, MemoryError)):
            return True
        if getattr(seen, "error_code", None) == _CUDA_OUT_OF_MEMORY and isinstance(
            seen, torch.AcceleratorError
        ):
            return True
        if isinstance(seen, (RuntimeError, OSError)) and _OUT_OF_MEMORY.search(str(seen)):
            return True
    return False


def only_host_memory(error: BaseException) -> bool:
    """Of memory that ran out: whether it was Python's, which no projection is of, and torch has no part in it."""
    told = _causes(error)
    of_torch = (torch.OutOfMemoryError, torch.AcceleratorError)
    if any(isinstance(seen, of_torch) for seen in told):
        return False
    asked = any(isinstance(seen, RuntimeError) and _OUT_OF_MEMORY.search(str(seen)) for seen in told)
    return not asked and any(isinstance(seen, (MemoryError, OSError)) for seen in told)


def card_fault(error: BaseException) -> str | None:
    """What is wrong with the card, in words, where this says that it is the card; None where it may be the job."""
    told = _causes(error)
    if any(isinstance(seen, RuntimeError) and _LIBRARY_ERROR.search(str(seen)) for seen in told):
        told += _said_by_the_card()
    for seen in told:
        if isinstance(seen, torch.AcceleratorError):
            code = getattr(seen, "error_code", None)
            if code in _CARD_ERRORS:
                return f"{_CARD_ERRORS[code]} ({str(seen).partition(chr(10))[0]})"
    return None


def _said_by_the_card() -> list[BaseException]:
    """The error that CUDA keeps for this process; none where the card still answers."""
    if not torch.cuda.is_initialized():
        return []
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        return [error]
    return []


def _causes(error: BaseException) -> list[BaseException]:
    """This, what caused it, and so on."""
    found: list[BaseException] = []
    seen: BaseException | None = error
    while seen is not None and seen not in found:
        found.append(seen)
        seen = seen.__cause__ or seen.__context__
    return found


def _card(assignment: Assignment) -> str:
    """Name and memory of the rank's card, or of its share of it."""
    card, has = assignment.card, gib(assignment.card.memory_bytes)
    if assignment.shared:
        has = f"a share of {gib(assignment.upper_bytes)} of {has}"
    return f"{card.name} with {has}"


def what_ran_out(error: BaseException, words: str) -> str:
    """torch's own sentence; of its CUDA allocator the figures, without the advice that it adds."""
    for seen in _causes(error):
        if isinstance(seen, torch.OutOfMemoryError) and (wanted := _WANTED.search(str(seen))):
            held = torch.cuda.memory_allocated()
            spare = torch.cuda.memory_reserved() - held
            return f"tried to allocate {wanted[1]} beside {gib(held)} of tensors and {gib(spare)} reserved besides"
        if "NCCL error" in str(seen):
            return "NCCL found no memory for itself"
    return words.partition(": ")[2]
