"""Checkpoints on a host that nobody needs any more: said to the server, removed when it says so."""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jobs.identity import JobKey, Owner
from workers.attempt_folder import checkpoints_root, jobs_root
from workers.checkpoints.job_folder import (
    Displaced,
    check_job_folder,
    forget_job_folder,
    read_record,
    set_others_aside,
)
from workers.set_aside import set_aside

log = logging.getLogger(__name__)

SAY_EVERY_S = 60.0
_DROPPED = ".dropped-"


class Tidier:
    """Everything under <home>/jobs. Large files are deleted beside the agent's loop."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._said_at: float | None = None
        self._deleter = ThreadPoolExecutor(1, thread_name_prefix="tidy")
        for left in jobs_root(home).glob(f"{_DROPPED}*"):  # by an agent that ended on the way
            self._delete(left)

    def kept(self, now: float) -> list[JobKey]:
        """The jobs with checkpoints here, as their folders name them, once in a while; else nothing."""
        if self._said_at is not None and now - self._said_at < SAY_EVERY_S:
            return []
        self._said_at = now
        root = jobs_root(self._home)
        names = [path.name for path in root.iterdir()] if root.is_dir() else []
        found = sorted(int(name) for name in names if name.isdigit())
        keys = (
            read_record(self._home, job_id)
            for job_id in found
            if checkpoints_root(self._home, job_id).is_dir()
        )
        return [key for key in keys if key is not None]

    def look_again(self) -> None:
        """Something ended: say at once what is here."""
        self._said_at = None

    def drop(self, owners: Iterable[Owner]) -> None:
        """Remove these jobs' checkpoints, where they are theirs. None of them has a trainer here."""
        for owner in owners:
            job_id = owner.job_id
            try:
                check_job_folder(self._home, owner)
            except Displaced as error:
                log.warning("nothing is removed: %s", error)
                continue
            found = checkpoints_root(self._home, job_id)
            gone = jobs_root(self._home) / f"{_DROPPED}{job_id}-{uuid.uuid4().hex[:8]}"
            try:
                set_others_aside(found, owner)
                found.rename(gone)  # out of sight first: half of them must not look like all
            except OSError as error:
                if found.is_dir():
                    log.warning("the checkpoints of job %d can't be removed: %s", job_id, error)
                continue
            log.info("the checkpoints of job %d are removed: it has ended", job_id)
            forget_job_folder(self._home, job_id)
            self._delete(gone)

    def reject(self, keys: Iterable[JobKey]) -> None:
        """Set aside the folders of these jobs, which the server does not know. None of them has a trainer here."""
        for key in keys:
            if read_record(self._home, key.job_id) == key:
                folder = jobs_root(self._home) / str(key.job_id)
                whose = f"uuid {key.job_uuid[:12]}" if key.job_uuid else "which names no uuid"
                text = f"the folder of a job {key.job_id} ({whose}) that the database does not know"
                set_aside(self._home, folder, f"job-{key.job_id}", text, key.job_id)

    def close(self) -> None:
        self._deleter.shutdown(wait=False, cancel_futures=True)

    def _delete(self, folder: Path) -> None:
        self._deleter.submit(shutil.rmtree, folder, ignore_errors=True)
