"""check_data(): what is wrong with the training data that a job file names. Needs no torch: the server runs it too."""

from __future__ import annotations

import os
import re
from itertools import islice
from typing import Any

from jobs.errors import MISSING, UNREADABLE, Fault, SpecError
from workers.data.layout import PLAIN, Layout
from workers.data.rows import SUFFIXES, open_rows

PAIR = ("prompt", "completion")
OR_HUB_ID = "or a hub id (org/name)"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_REMEMBERED = 4096
# Columns and faults by what was read.
_seen: dict[tuple[Any, ...], tuple[tuple[str, ...], tuple[Fault, ...]]] = {}


def is_hub_id(name: str) -> bool:
    """Whether a name that is no local path can be one on the hub: `org/name`, or an old one-word name."""
    return bool(_HUB_ID.fullmatch(name)) and not name.endswith(SUFFIXES) and not os.path.exists(name)


def check_data(
    path: str,
    split: str = "train",
    limit: int | None = None,
    loss_on: str | None = None,
    layout: Layout = PLAIN,
) -> list[Fault]:
    """The first thing wrong with the training data. A file that has not changed since it was read costs one stat.

    limit: rows to read at most; None reads all of them. loss_on: what the job file says, if anything.
    layout: of the rows.
    """
    try:
        stat = os.stat(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and is_hub_id(path):
            return []
        problem = MISSING if isinstance(error, FileNotFoundError) else f"{UNREADABLE}{error.strerror}"
        return [Fault("data.path", path, problem, f"give a file, a folder saved by datasets, {OR_HUB_ID}")]
    key = (os.path.realpath(path), split, stat.st_mtime_ns, stat.st_size, stat.st_ino, limit, layout)
    # What changes within a folder does not show on it.
    found = None if os.path.isdir(path) else _seen.pop(key, None)
    if found is None:
        found = _looked_at(path, split, limit, layout)
        while len(_seen) >= _REMEMBERED:
            _seen.pop(next(iter(_seen)))
    _seen[key] = found  # the last in the dict is the last used
    kind, faults = found
    return [*faults, *loss_faults(loss_on, kind)]


def loss_faults(loss_on: str | None, kind: tuple[str, ...]) -> list[Fault]:
    """loss_on beside rows whose loss it does not decide. kind: their columns; none where nobody knows them."""
    if loss_on is None or not kind or kind == ("messages",) or (loss_on == "all" and kind == PAIR):
        return []
    known = {PAIR: "the completion, and with `all` the prompt too", ("text",): "the text"}
    covers = known.get(kind, "the completions")
    problem = f"only applies to rows with messages, and these have {' and '.join(kind)}"
    return [Fault("data.loss_on", loss_on, problem, f"leave it out: the loss covers {covers}")]


def _looked_at(
    path: str, split: str, limit: int | None, layout: Layout
) -> tuple[tuple[str, ...], tuple[Fault, ...]]:
    rows = None
    try:
        rows = open_rows(path, split, layout)
        for _ in islice(rows, limit):
            pass
    except SpecError as error:
        return (), tuple(error.faults)
    except ImportError:
        # The base install lacks pyarrow: the host that trains reads these.
        return (), ()
    return (rows.shape.kind if rows.shape else ()), ()
