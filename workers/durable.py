"""Files that are there whole or not at all, whatever crashes; and one process at a time in a folder."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from jobs.errors import Conflict


def publish(path: Path, text: str, private: bool = False) -> None:
    """Put a file in place, whole: temporary file, fsync, rename. private: of mode 0600 from its first byte."""
    staged = _staged(path, text, private)
    os.replace(staged, path)
    sync_folder(path.parent)


def publish_once(path: Path, text: str, private: bool = False) -> bool:
    """Put a file in place, whole, unless there is one. False if there is one. private: see publish."""
    staged = _staged(path, text, private)
    try:
        # A hard link fails where the name exists, as O_EXCL does, but never shows a half-written file.
        os.link(staged, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(staged)
    sync_folder(path.parent)
    return True


def sync_file(path: Path | str) -> None:
    """Have a file's content on disk before anyone is told of it."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_folder(path: Path | str) -> None:
    """Have a folder's entries on disk."""
    sync_file(path)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process and thread at a time in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock", mode=0o600, poll_interval=0.01):
        yield


def take(path: Path, held: str) -> FileLock:
    """A lock on this file, held until released or the process ends. Raises Conflict(held) where another has it."""
    lock = FileLock(path, mode=0o600)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise Conflict(held) from None
    return lock


def _staged(path: Path, text: str, private: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        mode = 0o600 if private else 0o666
        with open(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:  # a full disk, for instance: who tries again must not leave a file each time
        staged.unlink(missing_ok=True)
        raise
    return staged
