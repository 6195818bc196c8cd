"""Folders of a job's checkpoints: published whole, found, pruned. No crash leaves a bad one."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import uuid
from pathlib import Path
from typing import Any

from jobs.identity import Owner, fault_of
from jobs.messages.reports import Checkpoint
from workers.checkpoints.manifest import MANIFEST, Corrupt, read_manifest, size_of, verify, write_manifest
from workers.durable import publish, sync_folder

log = logging.getLogger(__name__)

KEEP = 2  # of a job on a host

_STEP = re.compile(r"step-(\d{8,})")


def name_of(step: int) -> str:
    return f"step-{step:08d}"


def step_of(path: Path) -> int | None:
    """The optimizer step of a checkpoint folder; None for any other folder."""
    match = _STEP.fullmatch(path.name)
    return int(match[1]) if match else None


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


def latest_good(root: Path, owner: Owner | None = None, own: bool = True) -> tuple[Path, int] | None:
    """The newest checkpoint of a job that verifies, with its step. Others are logged and passed over.

    owner: None: whosever they are; own: see jobs.identity.fault_of.
    """
    for path, step in reversed(listed(root)):
        try:
            manifest = verify(path)
            if owner is not None and (fault := fault_of(manifest, owner, own=own)):
                raise Corrupt(f"it {fault}")
        except Corrupt as error:
            log.warning("checkpoint %s is passed over: %s", path.name, error)
            continue
        return path, step
    return None


def adopt(source: Path, staging: Path, root: Path, owner: Owner) -> Path:
    """Make another job's checkpoint one of this job's, of links to its files: that takes no room."""
    staged = staging / "adopted"
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(source, staged, copy_function=os.link)
    take_over(staged, owner)
    return put_in_place(staged, root / source.name)


def take_over(staged: Path, owner: Owner) -> None:
    """Have the manifest of another job's checkpoint name this job, and whose it was."""
    manifest = read_manifest(staged)
    taken = {name: manifest[name] for name in ("job_id", "job_uuid") if name in manifest}
    rest = {name: value for name, value in manifest.items() if name not in ("job_uuid", "taken_from")}
    taken = manifest.get("taken_from", taken)  # it had taken it over itself
    publish(staged / MANIFEST, json.dumps({**rest, **owner.facts(), "taken_from": taken}, indent=2))


def listed(root: Path) -> list[tuple[Path, int]]:
    """Checkpoint folders with their steps, oldest first, unverified."""
    if not root.is_dir():
        return []
    found = [(path, step_of(path)) for path in root.iterdir() if path.is_dir()]
    return sorted(((path, step) for path, step in found if step is not None), key=lambda item: item[1])


def look_at(path: Path, owner: Owner) -> Checkpoint | None:
    """A checkpoint as its manifest and the sizes of its files have it; None where it is none of this job, or goes just
    now.
    """
    step = step_of(path)
    try:
        manifest, made = read_manifest(path), (path / MANIFEST).stat().st_mtime
        if fault_of(manifest, owner):
            return None
        files = manifest["files"]
        whole = all((path / name).stat().st_size == facts["size"] for name, facts in files.items())
    except (FileNotFoundError, Corrupt, KeyError, TypeError):
        made, whole = 0.0, False
    if step is None or not path.is_dir():
        return None
    return Checkpoint(step=step, bytes=size_of(path) or 0, ts=made, whole=whole)


def prune(root: Path, keep: int = KEEP, best: int | None = None) -> None:
    """Delete all but the newest `keep` checkpoints that have a manifest, and those without one.

    best: the step of one that stays, however old it is.
    """
    complete = [path for path, _ in listed(root) if (path / MANIFEST).is_file()]
    kept = set(complete[-keep:]) if keep else set()
    kept |= {path for path in complete if best is not None and path.name == name_of(best)}
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
