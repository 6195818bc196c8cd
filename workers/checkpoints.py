"""Checkpoints of a job: published whole, verified by checksum, pruned. No crash leaves a bad one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import shutil
import uuid
from pathlib import Path, PurePosixPath
from typing import Any

from workers.folder import publish, sync_file, sync_folder

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
_STEP = re.compile(r"step-(\d{8,})")


class Corrupt(Exception):
    """A folder is not what its manifest says."""


def name_of(step: int) -> str:
    return f"step-{step:08d}"


def step_of(path: Path) -> int | None:
    """The optimizer step of a checkpoint folder; None for any other folder."""
    match = _STEP.fullmatch(path.name)
    return int(match[1]) if match else None


def write_manifest(folder: Path, extra: dict[str, Any] | None = None) -> None:
    """manifest.json: size and sha256 of every file in the folder, after all of them are on disk."""
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST):
        files[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": _sha256(path)}
        sync_file(path)
    publish(folder / MANIFEST, json.dumps({**(extra or {}), "files": files}, indent=2))
    for path in [p for p in folder.rglob("*") if p.is_dir()]:
        sync_folder(path)
    sync_folder(folder)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Raises Corrupt where there is none, or none that can be read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise Corrupt(f"{folder} has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise Corrupt(f"{folder / MANIFEST} can't be read: {error}") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise Corrupt(f"{folder / MANIFEST} lists no files")
    return manifest


def files_in(manifest: str) -> dict[str, tuple[int, str]]:
    """Size and sha256 by name of the files in a manifest that came from elsewhere. Raises Corrupt.

    No name leads out of the folder.
    """
    try:
        files = {
            str(name): (int(facts["size"]), str(facts["sha256"]))
            for name, facts in json.loads(manifest)["files"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"its manifest can't be read: {error!r}") from None
    for name, (size, _) in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or path.parts in ((), (MANIFEST,)) or size < 0:
            raise Corrupt(f"it lists {name!r} with {size} bytes, which is no file of a checkpoint")
    return files


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of a folder whose files all are what it says. Raises Corrupt, naming one that is not."""
    manifest = read_manifest(folder)
    for name, facts in manifest["files"].items():
        path = folder / name
        try:
            size = path.stat().st_size
        except OSError:
            raise Corrupt(f"{path} is missing") from None
        if size != facts["size"]:
            raise Corrupt(f"{path} has {size} bytes, its manifest says {facts['size']}")
        if _sha256(path) != facts["sha256"]:
            raise Corrupt(f"{path} does not match its checksum")
    return manifest


def size_of(folder: Path) -> int | None:
    """Bytes of a checkpoint, as its manifest says; None where there is none that can be read."""
    try:
        return sum(int(facts["size"]) for facts in read_manifest(folder)["files"].values())
    except (Corrupt, KeyError, TypeError, ValueError):
        return None


def publish_checkpoint(staged: Path, root: Path, step: int, extra: dict[str, Any] | None = None) -> Path:
    """Make the complete folder `staged` (on the same file system) the checkpoint of `step`.

    A good checkpoint of that step stays, and the new one is dropped; a corrupt one makes way.
    """
    write_manifest(staged, {**(extra or {}), "step": step})
    return put_in_place(staged, root / name_of(step), keep_good=True)


def put_in_place(staged: Path, target: Path, keep_good: bool = False) -> Path:
    """Rename `staged` to `target`. What stands there moves aside first and is deleted last.

    keep_good: what stands there stays if it verifies.
    """
    aside: Path | None = None
    if target.exists():
        if keep_good and _good(target):
            shutil.rmtree(staged)
            return target
        aside = target.with_name(f".old-{target.name}-{uuid.uuid4().hex[:8]}")
        target.rename(aside)
    staged.rename(target)
    sync_folder(target.parent)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def latest_good(root: Path) -> tuple[Path, int] | None:
    """The newest checkpoint that verifies, with its step. Corrupt ones are logged and passed over."""
    for path, step in reversed(listed(root)):
        try:
            verify(path)
        except Corrupt as error:
            log.warning("checkpoint %s is passed over: %s", path.name, error)
            continue
        return path, step
    return None


def listed(root: Path) -> list[tuple[Path, int]]:
    """Checkpoint folders with their steps, oldest first, unverified."""
    if not root.is_dir():
        return []
    found = [(path, step_of(path)) for path in root.iterdir() if path.is_dir()]
    return sorted(((path, step) for path, step in found if step is not None), key=lambda item: item[1])


def prune(root: Path, keep: int = 2) -> None:
    """Delete all but the newest `keep` checkpoints that have a manifest, and those without one."""
    complete = [path for path, _ in listed(root) if (path / MANIFEST).is_file()]
    kept = set(complete[-keep:]) if keep else set()
    for path, _ in listed(root):
        if path not in kept:
            # Out of sight first: half a checkpoint must not look like one.
            gone = path.with_name(f".old-{path.name}-{uuid.uuid4().hex[:8]}")
            with contextlib.suppress(FileNotFoundError):
                path.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)


def staging_folder(root: Path, attempt_id: int) -> Path:
    """Where an attempt's trainer saves before its checkpoint is published: on the same file system."""
    return root / f".staging-{attempt_id}"


def clear_leftovers(root: Path, attempt_id: int) -> None:
    """Delete what crashed attempts left half done, this attempt's own staging folder included."""
    root.mkdir(parents=True, exist_ok=True)
    for path in root.iterdir():
        if path.name.startswith((".staging-", ".old-")):
            shutil.rmtree(path, ignore_errors=True)
    staging_folder(root, attempt_id).mkdir()


def _good(folder: Path) -> bool:
    try:
        verify(folder)
    except Corrupt:
        return False
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
