"""What an attempt goes on from: the same on each of its ranks, and on the disk of each of its hosts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.report import Assignment, Resumed
from jobs.spec import JobSpec
from workers.carry import LOOK_S, Carrier, Reach
from workers.checkpoints.folders import latest_good, name_of
from workers.checkpoints.manifest import read_manifest
from workers.folder import AttemptFolder
from workers.span import Others

log = logging.getLogger(__name__)


def asked_steps(spec: JobSpec) -> dict[str, Any]:
    """What of a job file sets its number of steps, as manifests hold it."""
    return {"steps": spec.training.steps, "epochs": spec.training.epochs}


def finished(checkpoint: Path, step: int, spec: JobSpec) -> dict[str, Any] | None:
    """The manifest of a checkpoint that has all steps of the job; None where some are to be trained."""
    manifest = read_manifest(checkpoint)
    if spec.training.steps is not None:
        done = step >= spec.training.steps
    else:  # of epochs only a trainer can tell how many steps they are
        done = manifest.get("total_steps") == step and manifest.get("asked") == asked_steps(spec)
    return manifest if done else None


def checkpoint_of(
    assignment: Assignment,
    folder: AttemptFolder,
    root: Path,
    staging: Path,
    obey: Callable[[], None],
    reach: Reach | None,
    others: Others | None = None,
) -> tuple[Path, int] | None:
    """The checkpoint to resume from, with its step; None: there is none. Rank 0 decides; it may fetch it first.

    root: of this host's checkpoints of the job; obey: raises where the attempt is to stop; reach: the way to other
    hosts, None: there is none; others: the ranks on other hosts.
    """
    found = _decided(assignment, root, staging, obey, reach) if assignment.rank == 0 else None
    if others is not None:
        found = others.checkpoint(root, found)
    elif assignment.rank != 0:
        return _told(folder, root, obey)
    if assignment.local_rank == 0:
        folder.write_resumed(Resumed(ts=time.time(), step=found[1] if found else None))
    return found


def _decided(
    assignment: Assignment, root: Path, staging: Path, obey: Callable[[], None], reach: Reach | None
) -> tuple[Path, int] | None:
    own = latest_good(root)
    if not assignment.kept:
        return own
    if reach is None:
        named = ", ".join(place.host for place in assignment.kept)
        log.warning("there is no way to the checkpoints on %s: this trainer runs without Ray", named)
        return own
    return Carrier(assignment.job_id, root, staging, reach, obey).newest(assignment.kept, own)


def _told(folder: AttemptFolder, root: Path, obey: Callable[[], None]) -> tuple[Path, int] | None:
    """What rank 0 of this host says. Should it end without a word, the ranks' watch ends this one."""
    while (resumed := folder.resumed()) is None:
        obey()
        time.sleep(LOOK_S)
    return None if resumed.step is None else (root / name_of(resumed.step), resumed.step)
