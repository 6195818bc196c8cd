"""What is not what the server has by its id is moved to <host home>/aside, with the reason beside it."""

from __future__ import annotations

import json
import logging
import time
import uuid
from pathlib import Path

from pydantic import ValidationError

from jobs.identity import Aside
from workers.durable import publish

log = logging.getLogger(__name__)

MOST = 200  # that are told to the server


def aside_root(host_home: Path | str) -> Path:
    """The folder that holds what was set aside, each with NAME.json beside it."""
    return Path(host_home) / "aside"


def set_aside(
    host_home: Path | str, path: Path, name: str, text: str, job_id: int | None = None
) -> Path | None:
    """Move a folder out of the way; where it is now, None where it is gone already.

    name: what it was, as a part of a file name; text: why, in words that begin with what it is; job_id: by whose id it
    was found.
    """
    root = aside_root(host_home)
    root.mkdir(parents=True, exist_ok=True)
    target = root / f"{name}-{uuid.uuid4().hex[:8]}"
    note = root / f"{target.name}.json"
    said = Aside(name=target.name, ts=time.time(), text=text, job_id=job_id)
    publish(note, said.model_dump_json(indent=2))  # first: a folder must never be there without its reason
    try:
        path.rename(target)
    except FileNotFoundError:
        note.unlink()
        return None
    log.warning("%s: it is set aside as %s, and not used", text, target)
    return target


def listed_aside(host_home: Path | str) -> list[Aside]:
    """What was set aside and is still there, by name; the newest MOST of it."""
    root = aside_root(host_home)
    found = [_read(root, path) for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    return sorted(sorted(found, key=lambda one: one.ts)[-MOST:], key=lambda one: one.name)


class Telling:
    """What was set aside, told to the server as it changes."""

    def __init__(self, host_home: Path | str) -> None:
        self._home = host_home
        self._told: float | None = None  # when the folder had changed last, as the server knows it
        self._seen = 0.0

    def news(self) -> list[Aside] | None:
        """All of it, where the server does not have that yet."""
        root = aside_root(self._home)
        self._seen = root.stat().st_mtime if root.is_dir() else 0.0
        return None if self._seen == self._told else listed_aside(self._home)

    def confirm(self) -> None:
        """The server has the last news."""
        self._told = self._seen


def _read(root: Path, path: Path) -> Aside:
    """People may have removed the reason."""
    try:
        return Aside.model_validate(
            {**json.loads((root / f"{path.name}.json").read_bytes()), "name": path.name}
        )
    except (OSError, ValueError, ValidationError):
        return Aside(name=path.name, ts=path.stat().st_mtime, text=f"{path.name}, for a reason that was lost")
