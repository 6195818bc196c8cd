"""The folder of a job on a host: it says whose it is, and another job that had its id is set aside first.

<host home>/jobs/<job id>/job.json     the uuid of the job; without it, an older version made the folder
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs.errors import TuneyardError
from jobs.identity import JobKey, Owner, fault_of
from jobs.messages.reports import Assignment
from workers.attempt_folder import checkpoints_root, jobs_root
from workers.checkpoints.folders import listed
from workers.checkpoints.manifest import MANIFEST, Corrupt, read_manifest
from workers.durable import locked, publish
from workers.set_aside import set_aside

RECORD = "job.json"


class Displaced(TuneyardError):
    """The folder belongs to another job now."""


def read_record(host_home: Path | str, job_id: int) -> JobKey | None:
    """Whose a job's folder is; without a uuid where it does not say, None where there is none."""
    folder = jobs_root(host_home) / str(job_id)
    try:
        return JobKey.model_validate_json((folder / RECORD).read_bytes())
    except FileNotFoundError:
        return JobKey(job_id=job_id) if folder.is_dir() else None
    except ValidationError:
        return JobKey(job_id=job_id, job_uuid="unreadable")


def take_job_folder(host_home: Path | str, owner: Owner) -> Path:
    """Make the folder this job's, and return that of its checkpoints. What is another's in it is set aside."""
    claim_job_folder(host_home, owner)
    root = checkpoints_root(host_home, owner.job_id)
    root.mkdir(parents=True, exist_ok=True)
    set_others_aside(root, owner)
    return root


def claim_job_folder(host_home: Path | str, owner: Owner) -> None:
    """Have the folder say that it is this job's; another's by that id is set aside first."""
    folder = jobs_root(host_home) / str(owner.job_id)
    with locked(folder.parent):
        found = read_record(host_home, owner.job_id)
        if found is not None and not _same(found, owner):
            whose = f"uuid {found.job_uuid[:12]}" if found.job_uuid else "which names no uuid"
            text = f"the folder of another job that had the id {owner.job_id} ({whose})"
            set_aside(host_home, folder, f"job-{owner.job_id}", text, owner.job_id)
        if owner.job_uuid and not (folder / RECORD).is_file():
            record = JobKey(job_id=owner.job_id, job_uuid=owner.job_uuid)
            publish(folder / RECORD, record.model_dump_json())


def check_job_folder(host_home: Path | str, owner: Owner) -> None:
    """Raises Displaced where the folder is not this job's any more."""
    found = read_record(host_home, owner.job_id)
    if found is None or not _same(found, owner):
        raise Displaced(f"the folder of job {owner.job_id} on this host is another job's now")


def forget_job_folder(host_home: Path | str, job_id: int) -> None:
    """Remove the folder where no more is in it than whose it is. Logs stay, and whose they are."""
    folder = jobs_root(host_home) / str(job_id)
    with locked(folder.parent), contextlib.suppress(OSError):
        if [path.name for path in folder.iterdir()] == [RECORD]:
            (folder / RECORD).unlink()
        folder.rmdir()


def set_others_aside(root: Path, owner: Owner) -> None:
    """Of the checkpoints there those that are not this job's, or have other weights. root: of this host's."""
    for path, step in listed(root):
        with contextlib.suppress(Corrupt):  # half of one: a search for a good one passes over it
            if fault := fault_of(read_manifest(path), owner):
                text = f"the checkpoint of step {step} in the folder of job {owner.job_id} {fault}"
                set_aside(home_of(root), path, f"job-{owner.job_id}-{path.name}", text, owner.job_id)


def newest_of(root: Path, owner: Owner) -> Path | None:
    """The newest of a job's checkpoints that has a manifest. Whether it is good is checked where it is resumed."""
    complete = [path for path, _ in listed(root) if (path / MANIFEST).is_file() and is_of(path, owner)]
    return complete[-1] if complete else None


def is_of(path: Path, owner: Owner) -> bool:
    """Whether a checkpoint's manifest names this job and its weights."""
    try:
        return fault_of(read_manifest(path), owner) is None
    except Corrupt:
        return False


def made_by(assignment: Assignment) -> dict[str, Any]:
    """What the manifest of a checkpoint or a result says of who made it."""
    named = {"attempt_uuid": assignment.uuid} if assignment.uuid else {}
    return {
        **assignment.mine.facts(),
        "attempt_id": assignment.attempt_id,
        "number": assignment.number,
        "epoch": assignment.epoch,
        **named,
    }


def home_of(root: Path) -> Path:
    """The host home that a job's checkpoints are in."""
    return root.parents[2]


def _same(found: JobKey, owner: Owner) -> bool:
    if not found.job_uuid:
        return not owner.job_uuid or bool(owner.unnamed)
    return found.job_uuid == owner.job_uuid
