"""`data.columns` and `data.format`: columns that a file names otherwise, rows in the shapes of other programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.errors import Fault

# Columns of each format: those that rows need, and those that they may have.
FORMATS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "alpaca": (("instruction", "output"), ("input", "system", "history")),
    "sharegpt": (("conversations",), ("system", "tools")),
}
# Columns of rows without a format, of all trainers; tests/workers/data/test_layout.py holds them against those.
PLAIN = (
    *("prompt", "completion", "messages", "text", "chosen", "rejected", "label"),
    *("tools", "chat_template_kwargs"),
)


def faults(data: Mapping[str, Any]) -> list[Fault]:
    """Names that no row has a use for, and one column for two of them."""
    columns, kind = data.get("columns"), data.get("format")
    if not isinstance(columns, Mapping) or not (kind is None or kind in FORMATS):
        return []
    known = PLAIN if kind is None else (*FORMATS[kind][0], *FORMATS[kind][1])
    found = [
        Fault(
            f"data.columns.{name}", str(theirs), "is no column that is trained on", f"use {', '.join(known)}"
        )
        for name, theirs in columns.items()
        if name not in known
    ]
    given = list(columns.values())
    return found + [
        Fault(f"data.columns.{name}", str(theirs), "is named twice", "name each column of the file once")
        for at, (name, theirs) in enumerate(columns.items())
        if theirs in given[:at]
    ]
