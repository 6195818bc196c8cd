"""manifest.json: what is in a checkpoint or result, with sizes and checksums; written last, compared before use."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

from workers.durable import publish, sync_file, sync_folder

MANIFEST = "manifest.json"


class Corrupt(Exception):
    """A folder is not what its manifest says."""


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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
