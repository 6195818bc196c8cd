"""The result of a job: adapter or model as safetensors, tokenizer, manifest of checksums; published whole.

A result folder belongs to the job that its manifest names. Nothing here deletes what another made.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from jobs.identity import fault_of
from jobs.messages.reports import Assignment
from jobs.units import gib
from workers.checkpoints import disk_space
from workers.checkpoints.job_folder import made_by
from workers.checkpoints.manifest import MANIFEST, Corrupt, read_manifest, write_manifest
from workers.durable import sync_folder
from workers.input_errors import Refused
from workers.permissions import share_result
from workers.trainer.finite import NotFinite, not_finite_in

log = logging.getLogger(__name__)

# rename(2) of a folder onto a folder with something in it, or onto a file.
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
# What a checkpoint has beside the result: what training goes on from.
_TO_RESUME = ("optimizer.", "scheduler.", "scaler.", "rng_state", "trainer_state.json", "training_args.bin")
Fill = Callable[[Path], None]  # puts the files of a result into a folder that is not there yet


def check_free(target: Path, assignment: Assignment) -> None:
    """Raises Refused if `target` holds what no earlier attempt of this very job made."""
    owner = _another(target, assignment)
    # Where the job file names no folder, a job that had this one's id before a restore is no reason to fail.
    if owner is not None and (assignment.spec.output or not _had_our_id(target, assignment)):
        raise Refused(
            f"output: {target} exists already, {owner}; move it away, or set output to another folder"
        )
    above = next(parent for parent in target.parents if parent.exists())
    if not above.is_dir():
        raise Refused(f"output: {above} is a file, so {target} can't be made; set output to another folder")


def spec_of(assignment: Assignment) -> dict[str, Any]:
    """The job's spec as the manifest holds it."""
    return assignment.spec.model_dump(mode="json")


def from_model(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase) -> Fill:
    """The result of a model in memory."""

    def fill(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return fill


def from_checkpoint(checkpoint: Path) -> Fill:
    """The result that the checkpoint of the last step holds, byte for byte. On one file system it takes no room."""

    def fill(folder: Path) -> None:
        files = result_files(checkpoint)
        need = disk_space.Need(folder.parent, sum(files.values()), "the result", beside=checkpoint)
        if need.needed > disk_space.free_bytes(need.at):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(checkpoint / name, folder / name)
            except OSError:  # another file system, or one without links
                shutil.copyfile(checkpoint / name, folder / name)

    return fill


def result_files(checkpoint: Path) -> dict[str, int]:
    """Names and sizes of those files of a checkpoint that are the result's."""
    files = read_manifest(checkpoint)["files"]
    return {name: int(facts["size"]) for name, facts in files.items() if not name.startswith(_TO_RESUME)}


def publish_result(
    fill: Fill, target: Path, assignment: Assignment, facts: dict[str, Any], fleet: str, size: int = 0
) -> Path:
    """Fill a folder next to `target`, then rename it; returns the result's folder.

    That is another one beside `target` if somebody made something there since check_free. facts go into the
    manifest (steps, losses, versions); fleet: see clear_unfinished; size: bytes of the result, as far as known. Raises
    NoStorage where the folder takes no result, NotFinite where its weights are none, Malformed where they
    can't be read back; nothing is left there then.
    """
    staged = target.with_name(f"{_mark(_STAGED, fleet, assignment)}{assignment.attempt_id}-{_random()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fill(staged)
        if (name := not_finite_in(staged)) is not None:
            raise NotFinite(f"the trained weights are not finite, such as {name}; no result was published")
        write_manifest(
            staged,
            {
                "kind": "adapter" if (staged / "adapter_config.json").exists() else "model",
                **made_by(assignment),
                "base_model": assignment.spec.model.path,
                "spec": spec_of(assignment),
                **facts,
            },
        )
        share_result(staged)
        return next(name for name in _names(target, assignment) if _put(staged, name, assignment, fleet))
    except Exception as error:
        said = disk_space.refused(error)
        shutil.rmtree(staged, ignore_errors=True)
        if said is None:
            raise
        free = disk_space.free_bytes(target.parent)
        took = disk_space.figures(size, free) if size else f"{gib(free)} free"
        raise disk_space.NoStorage(f"{said[0].lower()}{said[1:]} in {target.parent} ({took})") from error


_STAGED, _ASIDE = ".attempt", ".old"


def _mark(kind: str, fleet: str, assignment: Assignment) -> str:
    """How the names of a job's unfinished folders begin. Another fleet that writes here has jobs of our numbers, and so
    may have this one before a restore.
    """
    named = f"-{assignment.mine.job_uuid[:12]}" if assignment.mine.job_uuid else ""
    return f"{kind}-{fleet}.{assignment.job_id}{named}."


def _random() -> str:
    return uuid.uuid4().hex[:8]


def clear_unfinished(target: Path, assignment: Assignment, fleet: str) -> None:
    """Delete what earlier attempts of this very job left half done next to `target`. None of them runs any more.

    fleet: tells this database's jobs from those of another that writes to the same output root.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in list(target.parent.iterdir()):
            if path.name.startswith(_mark(_STAGED, fleet, assignment)):
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.startswith(_mark(_ASIDE, fleet, assignment)):
                # An older result that was on its way out. Where nothing took its place yet, it goes back.
                with contextlib.suppress(OSError, Corrupt):
                    if _another(path, assignment) is None:
                        _delete_ours(path) if target.exists() else path.rename(target)


def _names(target: Path, assignment: Assignment) -> Iterator[Path]:
    """`target`, then names beside it. Another fleet that writes here may have had a job of our number."""
    yield target
    beside = f"{target.name}-job-{assignment.job_id}"
    yield target.with_name(beside)
    for number in itertools.count(2):
        yield target.with_name(f"{beside}-{number}")


def _put(staged: Path, target: Path, assignment: Assignment, fleet: str) -> bool:
    """Rename `staged` to `target` unless another's things are there. Our own older result makes way."""
    owner = _another(target, assignment)
    aside: Path | None = None
    if owner is None and target.exists() and any(target.iterdir()):
        aside = target.with_name(f"{_mark(_ASIDE, fleet, assignment)}{_random()}")
        target.rename(aside)
    if owner is None:
        try:
            staged.rename(target)  # onto an empty folder, too; fails if one moved in after the look above
        except OSError as error:
            if error.errno not in _TAKEN:
                if aside is not None:
                    aside.rename(target)
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
    if (fault := _not_ours(manifest, assignment)) is not None:
        return fault
    listed = {MANIFEST, *manifest["files"]}
    foreign = next((name for name in sorted(_files(target)) if name not in listed), None)
    return None if foreign is None else f"with {foreign} in it, which this job did not make"


def _not_ours(manifest: dict[str, Any], assignment: Assignment) -> str | None:
    """Who made a result, where that was not this very job with this job file."""
    if "job_id" not in manifest:
        return "not made by tuneyard"
    fault = fault_of(manifest, assignment.mine)
    if manifest.get("job_uuid") is not None and fault is None:
        return None
    if manifest["job_id"] != assignment.job_id:
        return f"made by job {manifest['job_id']}"
    if fault is None and manifest.get("spec") == spec_of(assignment):
        return None
    if manifest.get("job_uuid") == assignment.mine.job_uuid or not assignment.mine.job_uuid:
        return f"made by job {manifest['job_id']} with another job file"
    return f"made by another job that had the id {manifest['job_id']}"


def _had_our_id(target: Path, assignment: Assignment) -> bool:
    """Whether a result there is of another job by this one's id."""
    try:
        manifest = read_manifest(target)
    except Corrupt:
        return False
    made = manifest.get("job_uuid", "")
    return manifest.get("job_id") == assignment.job_id and made != assignment.mine.job_uuid


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
