"""A small disk of its own, that a test can fill."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs.units import MiB


class Disk:
    """A tmpfs. fill(): leaves so many bytes; empty(): there is room again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self, leave: int = 0) -> None:
        with self._ballast.open("ab") as file:
            try:
                while True:
                    file.write(b"x" * 65536)
                    file.flush()
            except OSError as error:
                assert error.errno == errno.ENOSPC
        if leave:
            with self._ballast.open("r+b") as file:
                file.truncate(self._ballast.stat().st_size - leave)

    def empty(self) -> None:
        self._ballast.unlink()

    def names(self) -> list[str]:
        """What is on it, beside what fills it."""
        return sorted(path.name for path in self.path.iterdir() if path != self._ballast)


@contextmanager
def mounted(path: Path, size: int = 8 * MiB) -> Iterator[Disk]:
    """A disk of that size; skips the test where mounting is not allowed."""
    path.mkdir(parents=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
