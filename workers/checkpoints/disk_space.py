"""Room on the disks that checkpoints and results go to: what is needed and free, and errors that say there is none."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import TuneyardError
from jobs.units import apart

# Of a disk that is full, or that takes nothing at all: no read fails so.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
# Of the process that writes. When a file is read, these errors mean something else.
_NO_WRITING = _NO_ROOM | {errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENXIO}
# safetensors and tokenizers are Rust and raise types of their own, with the system's words; torch.save has none.
_OS_ERROR = re.compile(r"\(os error (\d+)\)|code: (\d+), kind: ")
_TORCH_WRITER = re.compile(r"PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+")


class NoStorage(TuneyardError):
    """A folder of this host takes nothing, or has too little room."""


@dataclass(frozen=True)
class Need:
    """Bytes that are to go to a folder. what: in words; beside: a folder on whose file system they take no more room,
    for they are links to files there.
    """

    folder: Path
    bytes: int
    what: str
    beside: Path | None = None

    @property
    def at(self) -> Path:
        """The folder, or the nearest above it that there is."""
        return nearest(self.folder)

    @property
    def needed(self) -> int:
        shared = self.beside is not None and device(self.at) == device(nearest(self.beside))
        return 0 if shared else max(0, self.bytes)


def nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next((path for path in (folder, *folder.parents) if path.is_dir()), Path("/"))


def device(folder: Path) -> int:
    return folder.stat().st_dev


def free_bytes(folder: Path) -> int:
    """What this process may still write there."""
    return shutil.disk_usage(nearest(folder)).free


def shortage(needs: Iterable[Need]) -> str | None:
    """What is wrong with where these go, in words that name a folder; None where all of them have room."""
    left: dict[int, int] = {}
    for need in needs:
        at = need.at
        if not os.access(at, os.W_OK | os.X_OK):
            return f"{at} can't be written to, where {need.what} is to go"
        free = left.setdefault(device(at), free_bytes(at))
        if need.needed > free:
            return f"too little space in {need.folder} for {need.what} ({figures(need.needed, free)})"
        left[device(at)] = free - need.needed
    return None


def figures(needed: int, free: int) -> str:
    wanted, left = apart(needed, max(0, free))
    return f"needs {wanted}, {left} free"


def refused(error: BaseException) -> str | None:
    """What a disk said to a write, where this error or what caused it is that: such as No space left on device."""
    return _said(error, _NO_WRITING)


def full(error: BaseException) -> str | None:
    """The same for an error that may come from a read: only what no read says counts."""
    return _said(error, _NO_ROOM)


def _said(error: BaseException, counted: frozenset[int]) -> str | None:
    seen: BaseException | None = error
    while seen is not None:
        number = seen.errno if isinstance(seen, OSError) else None
        if number is None and (match := _OS_ERROR.search(str(seen))):
            number = int(match[1] or match[2])
        if number in counted:
            assert number is not None
            return os.strerror(number)
        if isinstance(seen, RuntimeError) and _TORCH_WRITER.search(str(seen)):
            return os.strerror(errno.ENOSPC)
        seen = seen.__cause__ or seen.__context__
    return None
