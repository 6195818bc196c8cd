"""Who may read what a host writes: its own files nobody else, results outside of its home whom the user lets."""

from __future__ import annotations

import os
from pathlib import Path

RESULTS = "TUNEYARD_RESULT_UMASK"  # environment variable that trainers inherit


def keep_private(home: Path, output_root: Path) -> None:
    """From now on files of this process and of those it starts are its user's alone. Once, before it has threads."""
    before = os.umask(0o077)
    if output_root.is_relative_to(home):
        os.environ.pop(RESULTS, None)
    else:
        os.environ[RESULTS] = f"{before:o}"


def share_result(folder: Path) -> None:
    """Give a result outside of the home the permissions that its user's files have."""
    if (text := os.environ.get(RESULTS)) is None:
        return
    hidden = int(text, 8)
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod((0o777 if path.is_dir() else 0o666) & ~hidden)
