"""What the rows of a job were: kept with each checkpoint, so that an attempt can tell whether they changed since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_NAME = "rows.json"


@dataclass(frozen=True)
class Fingerprint:
    """rows: how many the data has, those left out too; sha256: of all that is trained on in them, in their order."""

    rows: int
    sha256: str

    def write(self, folder: Path) -> None:
        (folder / _NAME).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Fingerprint:
        """What write() left there."""
        return cls(**json.loads((folder / _NAME).read_text()))

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Fingerprint | None:
        """That of a checkpoint; None of one that was saved before there was any."""
        try:
            return cls(int(manifest["data"]["rows"]), str(manifest["data"]["sha256"]))
        except (KeyError, TypeError, ValueError):
            return None


class Printer:
    """Takes the rows down as they are read."""

    def __init__(self) -> None:
        self._rows, self._digest = 0, hashlib.sha256()

    def add(self, row: Mapping[str, Any]) -> None:
        self._rows += 1
        self._digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")

    def made(self) -> Fingerprint:
        return Fingerprint(self._rows, self._digest.hexdigest())


@dataclass(frozen=True)
class News:
    """Rows that are not those of the checkpoint. text: for people; steps: of the whole job, None: counted again."""

    text: str
    steps: int | None


def changed(now: Fingerprint, manifest: Mapping[str, Any], asked: Any) -> News | None:
    """What to say of rows that changed since a checkpoint; None where they did not, or nobody can tell.

    manifest: of the checkpoint; asked: what the job asks for in steps or epochs now: where that is as it was, so is
    the number of steps.
    """
    before = Fingerprint.of(manifest)
    if before is None or before == now:
        return None
    steps = manifest.get("total_steps") if manifest.get("asked") == asked else None
    how = f"{before.rows:,} rows then, {now.rows:,} now"
    if before.rows == now.rows:
        how = f"{now.rows:,} rows as before, but not the same"
    count = (
        f"still {steps:,} steps in all"
        if steps
        else "with its steps counted again, as the job file changed too"
    )
    text = f"the data changed since step {manifest.get('step')}: {how}; it goes on with the new rows, {count}"
    return News(text, steps)
