"""Checkpoints on a host that nobody needs any more: said to the server, removed when it says so."""

from __future__ import annotations

import contextlib
import logging
import shutil
import uuid
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from workers.folder import checkpoints_root, jobs_root

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

    def kept(self, now: float) -> list[int]:
        """The jobs with checkpoints here, once in a while; else nothing."""
        if self._said_at is not None and now - self._said_at < SAY_EVERY_S:
            return []
        self._said_at = now
        root = jobs_root(self._home)
        names = [path.name for path in root.iterdir()] if root.is_dir() else []
        found = sorted(int(name) for name in names if name.isdigit())
        return [job_id for job_id in found if checkpoints_root(self._home, job_id).is_dir()]

    def look_again(self) -> None:
        """Something ended: say at once what is here."""
        self._said_at = None

    def drop(self, job_ids: Collection[int]) -> None:
        """Remove these jobs' checkpoints. None of them has a trainer here."""
        for job_id in job_ids:
            found = checkpoints_root(self._home, job_id)
            gone = jobs_root(self._home) / f"{_DROPPED}{job_id}-{uuid.uuid4().hex[:8]}"
            try:
                found.rename(gone)  # out of sight first: half of them must not look like all
            except OSError as error:
                if found.is_dir():
                    log.warning("the checkpoints of job %d can't be removed: %s", job_id, error)
                continue
            log.info("the checkpoints of job %d are removed: it has ended", job_id)
            with contextlib.suppress(OSError):  # its logs stay
                found.parent.rmdir()
            self._delete(gone)

    def close(self) -> None:
        self._deleter.shutdown(wait=False, cancel_futures=True)

    def _delete(self, folder: Path) -> None:
        self._deleter.submit(shutil.rmtree, folder, ignore_errors=True)
