"""Whether a trainer that left no outcome ran out of its card: by its last words, or by how full a CPU card was.

An allocation that fails inside a library may end the process: C++ calls abort() when nobody catches std::bad_alloc,
Rust's allocator aborts, and a null pointer that nobody looked at is a segmentation fault. Which signal it was, the
host agent can't see: the trainer is no child of its. bitsandbytes calls exit() where CUDA refuses it memory
(csrc/ops.cuh, CUDA_CHECK_RETURN).
"""

from __future__ import annotations

import re

from jobs.messages.reports import Assignment, Progress
from jobs.units import gib
from workers.attempt_folder import AttemptFolder

_LAST_WORDS_BYTES = 4096
_WORDS = re.compile(
    r"std::bad_alloc|memory allocation of \d+ bytes failed|DefaultCPUAllocator: can't allocate memory"
    r"|[Cc]annot allocate memory|\bMemoryError\b"
)
_CUDA_WORDS = re.compile(r"Error out of memory at line \d+|CUDA (?:driver )?error: out of memory")
# Of a card in use at the last line: a person's kill -9 finds less, a step that runs out of the rest has little more.
FULL = 0.9


def ran_out(folder: AttemptFolder, assignment: Assignment | None, last: Progress | None) -> str | None:
    """Why the death of a rank is its card's memory, in words; None where nothing says so.

    assignment: of that rank; last: line of progress.
    """
    if assignment is None or not assignment.gpus:  # a step has no card
        return None
    has = assignment.card.memory_bytes
    if assignment.shared and assignment.upper_bytes:
        has = assignment.upper_bytes
    where = f"memory ran out on {assignment.card.name} with {gib(has)}"
    log = folder.read_log(max(0, folder.log_bytes() - _LAST_WORDS_BYTES)).decode(errors="replace")
    cuda = assignment.card.kind == "cuda"
    if said := (_CUDA_WORDS if cuda else _WORDS).search(log):
        return f"{where}: the process ended itself ({said[0]})"
    if cuda:
        return None
    used = last.device_bytes if last is not None else None
    if used is not None and used >= FULL * has:
        return f"{where}: the process ended with {gib(used)} in use"
    return None
