"""Git LFS pointers: the small text that stands for a file which was never downloaded."""

from __future__ import annotations

from pathlib import Path

from jobs.errors import Fault

_FIRST = b"version https://git-lfs"


def is_pointer(path: Path) -> bool:
    """Whether a file is a Git LFS pointer; False where it can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(_FIRST)) == _FIRST
    except OSError:
        return False


def pointer_fault(field: str, path: Path) -> Fault:
    """What is said of one."""
    problem = "is a Git LFS pointer, not the file itself"
    return Fault(
        field, str(path), problem, f"run `git lfs pull` in {path.parent}, or download the file again"
    )
