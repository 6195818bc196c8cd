"""What an attempt goes on from: the same on each of its ranks, and on the disk of each of its hosts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainingArguments

from jobs.errors import Fault, SpecError
from jobs.jobfile.spec import JobSpec
from jobs.messages.reports import Assignment, Resumed
from workers.attempt_folder import AttemptFolder, checkpoints_root
from workers.checkpoints.folders import adopt, latest_good, name_of
from workers.checkpoints.job_folder import home_of
from workers.checkpoints.manifest import read_manifest
from workers.checkpoints.transfer import LOOK_S, Carrier, Reach
from workers.data.fingerprint import Fingerprint, changed
from workers.trainer.ranks.rendezvous import Others
from workers.trainer.saving.best import Best

log = logging.getLogger(__name__)


def asked_steps(spec: JobSpec) -> dict[str, Any]:
    """What of a job file sets its number of steps, as manifests hold it."""
    return {"steps": spec.training.steps, "epochs": spec.training.epochs}


def take_rows(
    args: TrainingArguments,
    data: Path,
    resume: tuple[Path, int] | None,
    spec: JobSpec,
    others: Others | None = None,
) -> tuple[Fingerprint, str | None]:
    """What the rows of this attempt are, and what is new about them since the checkpoint that it goes on from.

    Other rows don't change the number of steps: args gets that of before. data: folder of the rows as tokens;
    others: the ranks on other hosts. Raises SpecError where those read other rows.
    """
    now = Fingerprint.read(data)
    if others is not None and (differ := others.differ(f"{now.rows:,} rows, SHA-256 {now.sha256[:12]}")):
        fix = "copy one and the same data to each of them, and submit the job again"
        fault = Fault("data.path", spec.data.path, f"is not the same on all hosts: {differ}", fix)
        raise SpecError([fault], "data")
    news = changed(now, read_manifest(resume[0]), asked_steps(spec)) if resume else None
    if news is None:
        return now, None
    log.warning("%s", news.text)
    args.max_steps = news.steps or args.max_steps
    return now, news.text


def left_out(checkpoint: Path) -> int:
    """How many steps up to a checkpoint changed no weight. Older versions did not write it down."""
    return int(read_manifest(checkpoint).get("left_out", 0))


def longest_first(resume: tuple[Path, int] | None, fixed: bool) -> bool:
    """Whether the first step has the longest rows: as it had them in the attempt that the checkpoint is of.

    In another order the rows that are still to come would not be those that were not trained yet. fixed: whether the
    segments of a rank's allocator don't expand; where those of one don't, all ranks have that order, or they would
    share out the rows in two ways.
    """
    if resume is not None:
        return bool(read_manifest(resume[0]).get("longest_first", False))
    return any(gather_object([fixed]))


def finished(checkpoint: Path, step: int, spec: JobSpec, best: Best) -> dict[str, Any] | None:
    """The manifest of a checkpoint that has all steps of the job; None where some are to be trained."""
    manifest = read_manifest(checkpoint)
    if best.ended(checkpoint):
        return manifest
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
    found, whose = None, {}
    if assignment.rank == 0:
        found = _decided(assignment, root, staging, obey, reach)
        whose = _whose(found[0]) if found else {}
    if others is not None:
        found = others.checkpoint(root, found)
    elif assignment.rank != 0:
        return _told(folder, root, obey)
    if assignment.local_rank == 0:
        adopted = whose.get("job_id", assignment.job_id) != assignment.job_id
        folder.write_resumed(
            Resumed(
                ts=time.time(),
                step=found[1] if found else None,
                job_id=assignment.continues if adopted else None,
                job_uuid=whose.get("job_uuid", ""),
            )
        )
    return found


def _whose(checkpoint: Path) -> dict[str, Any]:
    """The job that made a checkpoint, as its manifest names it."""
    manifest = read_manifest(checkpoint)
    whose: dict[str, Any] = manifest.get("taken_from", manifest)
    return {name: whose[name] for name in ("job_id", "job_uuid") if name in whose}


def _decided(
    assignment: Assignment, root: Path, staging: Path, obey: Callable[[], None], reach: Reach | None
) -> tuple[Path, int] | None:
    mine, theirs = assignment.mine, assignment.theirs
    own = latest_good(root, mine)
    if theirs is not None:
        found = latest_good(checkpoints_root(home_of(root), theirs.job_id), theirs, own=False)
        if found is not None and found[1] > (own[1] if own else 0):
            log.info("checkpoint %s of job %d is taken over", found[0].name, theirs.job_id)
            own = adopt(found[0], staging, root, mine), found[1]
    if not assignment.kept:
        return own
    if reach is None:
        named = ", ".join(place.host for place in assignment.kept)
        log.warning("there is no way to the checkpoints on %s: this trainer runs without Ray", named)
        return own
    return Carrier(mine, root, staging, reach, obey, theirs).newest(assignment.kept, own)


def _told(folder: AttemptFolder, root: Path, obey: Callable[[], None]) -> tuple[Path, int] | None:
    """What rank 0 of this host says. Should it end without a word, the ranks' watch ends this one."""
    while (resumed := folder.resumed()) is None:
        obey()
        time.sleep(LOOK_S)
    return None if resumed.step is None else (root / name_of(resumed.step), resumed.step)


def follow_schedule(scheduler: LambdaLR, learning_rate: float) -> None:
    """Have a resumed run follow the job file that it has now: a checkpoint brings the learning rate of the one before.

    The same job file gives the same rates, to the bit.
    """
    scheduler.base_lrs = [learning_rate for _ in scheduler.base_lrs]
    for group, share in zip(scheduler.optimizer.param_groups, scheduler.lr_lambdas, strict=True):
        group["initial_lr"], group["lr"] = learning_rate, learning_rate * share(scheduler.last_epoch)
    scheduler._last_lr = [group["lr"] for group in scheduler.optimizer.param_groups]
