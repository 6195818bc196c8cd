"""Files that are there whole or not at all, whatever crashes; and one process at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


def publish(path: Path, text: str) -> None:
    """Put a file in place, whole: temporary file, fsync, rename."""
    staged = _staged(path, text)
    os.replace(staged, path)
    sync_folder(path.parent)


def publish_once(path: Path, text: str) -> bool:
    """Put a file in place, whole, unless there is one. False if there is one."""
    staged = _staged(path, text)
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
    """One process and thread at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _staged(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with staged.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:  # a full disk, for instance: who tries again must not leave a file each time
        staged.unlink(missing_ok=True)
        raise
    return staged
