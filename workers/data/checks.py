"""check_data(): what is wrong with the training data that a job file names. Needs no torch: the server runs it too."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from jobs.errors import MISSING, UNREADABLE, Fault
from workers.checks.pointers import is_pointer, pointer_fault
from workers.data.rows import SUFFIXES, check_file, check_saved

OR_HUB_ID = "or a hub id (org/name)"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_REMEMBERED = 4096
_seen: dict[tuple[Any, ...], tuple[Fault, ...]] = {}


def is_hub_id(name: str) -> bool:
    """Whether a name that is no local path can be one on the hub: `org/name`, or an old one-word name."""
    return bool(_HUB_ID.fullmatch(name)) and not name.endswith(SUFFIXES) and not os.path.exists(name)


def check_data(path: str, split: str = "train", limit: int | None = None) -> list[Fault]:
    """What is wrong with the training data. A file that has not changed since it was read costs one stat.

    limit: rows to read at most; None reads all of them.
    """
    try:
        stat = os.stat(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and is_hub_id(path):
            return []
        problem = MISSING if isinstance(error, FileNotFoundError) else f"{UNREADABLE}{error.strerror}"
        return [Fault("data.path", path, problem, f"give a file, a folder saved by datasets, {OR_HUB_ID}")]
    if os.path.isdir(path):
        return check_saved(Path(path), split)
    key = (os.path.realpath(path), stat.st_mtime_ns, stat.st_size, stat.st_ino, limit)
    found = _seen.pop(key, None)
    if found is None and is_pointer(Path(path)):
        found = (pointer_fault("data.path", Path(path)),)
    if found is None:
        found = tuple(check_file(Path(path), limit))
        while len(_seen) >= _REMEMBERED:
            _seen.pop(next(iter(_seen)))
    _seen[key] = found  # the last in the dict is the last used
    return list(found)
