"""The result of a job: adapter or model as safetensors, tokenizer, manifest of checksums; published whole.

A result folder belongs to the job that its manifest names. Nothing here deletes what another made.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from jobs.report import Assignment
from workers.building import Refused
from workers.checkpoints.manifest import MANIFEST, Corrupt, read_manifest, write_manifest
from workers.folder import sync_folder

log = logging.getLogger(__name__)

# rename(2) of a folder onto a folder with something in it, or onto a file.
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


def check_free(target: Path, assignment: Assignment) -> None:
    """Raises Refused if `target` holds what no earlier attempt of this very job made."""
    owner = _another(target, assignment)
    if owner is not None:
        raise Refused(
            f"output: {target} exists already, {owner}; move it away, or set output to another folder"
        )
    above = next(parent for parent in target.parents if parent.exists())
    if not above.is_dir():
        raise Refused(f"output: {above} is a file, so {target} can't be made; set output to another folder")


def spec_of(assignment: Assignment) -> dict[str, Any]:
    """The job's spec as the manifest holds it."""
    return assignment.spec.model_dump(mode="json")


def publish_result(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    target: Path,
    assignment: Assignment,
    facts: dict[str, Any],
) -> Path:
    """Save next to `target`, then rename; returns the result's folder.

    That is another one beside `target` if somebody made something there since check_free. facts go into the
    manifest (steps, losses, versions).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Another fleet that writes here may have an attempt of our number.
    staged = target.with_name(f".attempt-{assignment.attempt_id}-{uuid.uuid4().hex[:8]}")
    model.save_pretrained(staged)
    tokenizer.save_pretrained(staged)
    write_manifest(
        staged,
        {
            "kind": "adapter" if isinstance(model, PeftModel) else "model",
            "job_id": assignment.job_id,
            "attempt_id": assignment.attempt_id,
            "number": assignment.number,
            "base_model": assignment.spec.model.path,
            "spec": spec_of(assignment),
            **facts,
        },
    )
    return next(name for name in _names(target, assignment) if _put(staged, name, assignment))


def _names(target: Path, assignment: Assignment) -> Iterator[Path]:
    """`target`, then names beside it. Another fleet that writes here may have had a job of our number."""
    yield target
    beside = f"{target.name}-job-{assignment.job_id}"
    yield target.with_name(beside)
    for number in itertools.count(2):
        yield target.with_name(f"{beside}-{number}")


def _put(staged: Path, target: Path, assignment: Assignment) -> bool:
    """Rename `staged` to `target` unless another's things are there. Our own older result makes way."""
    owner = _another(target, assignment)
    aside: Path | None = None
    if owner is None and target.exists() and any(target.iterdir()):
        aside = target.with_name(f".old-{uuid.uuid4().hex[:8]}")
        target.rename(aside)
    if owner is None:
        try:
            staged.rename(target)  # onto an empty folder, too; fails if one moved in after the look above
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            owner = "made just now"
        else:
            sync_folder(target.parent)
    if aside is not None:
        _delete_ours(aside)
    if owner is not None:
        log.warning("%s is left alone: %s", target, owner)
    return owner is None


def _another(target: Path, assignment: Assignment) -> str | None:
    """Whose `target` is, in words, or what in it is another's; None if it is free, or all of it is this job's."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    try:
        manifest = read_manifest(target)
    except Corrupt:
        return "not made by tuneyard"
    if manifest.get("job_id") != assignment.job_id or manifest.get("spec") != spec_of(assignment):
        return f"made by job {manifest['job_id']}" if "job_id" in manifest else "not made by tuneyard"
    listed = {MANIFEST, *manifest["files"]}
    foreign = next((name for name in sorted(_files(target)) if name not in listed), None)
    return None if foreign is None else f"with {foreign} in it, which this job did not make"


def _files(folder: Path) -> Iterator[str]:
    """All that is no folder below `folder`, named as a manifest names it."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(folder).as_posix()


def _delete_ours(folder: Path) -> None:
    """Delete what a result's manifest lists, and the folders that this leaves empty."""
    listed = {MANIFEST, *read_manifest(folder)["files"]}
    for name in listed.intersection(_files(folder)):
        (folder / name).unlink()
    below = (path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())
    for path in [*sorted(below, reverse=True), folder]:
        with contextlib.suppress(OSError):  # something moved in while we looked: it stays
            path.rmdir()
