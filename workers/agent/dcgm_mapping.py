"""The folder in which dcgm-exporter looks up jobs: a file a card, named by its index, with a job's id on each line.

dcgm-exporter reads it each time that it collects, where it was started with --hpc-job-mapping-dir (or the variable
DCGM_HPC_JOB_MAPPING_DIR), and gives its metrics the label hpc_job.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path

log = logging.getLogger(__name__)


class DcgmMapping:
    """Kept as long as the agent lives. folder: None: nobody asked for it."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._written: dict[int, str | None] = {}  # by index; None: no file
        self._trouble = ""

    def write(self, jobs: Mapping[int, Collection[int]]) -> None:
        """jobs: of every card by its index. What can't be written is logged once, and tried again."""
        if self._folder is None:
            return
        trouble = ""
        for index, ids in jobs.items():
            text = "".join(f"{job}\n" for job in sorted(set(ids))) or None
            if self._written.get(index, "") == text:
                continue
            try:
                _put(self._folder / str(index), text)
                self._written[index] = text
            except OSError as error:
                trouble = f"{error.filename or self._folder}: {error.strerror}"
        if trouble and trouble != self._trouble:
            log.warning("dcgm-exporter is not told which jobs run here: %s", trouble)
        self._trouble = trouble

    def clear(self) -> None:
        """No job is on any of these cards any more."""
        self.write(dict.fromkeys(self._written, ()))


def _put(path: Path, text: str | None) -> None:
    """In place: a second file, however short its life, would be one of a card to whoever lists the folder."""
    if text is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
    try:
        os.fchmod(file, 0o644)  # dcgm-exporter is another user
        os.write(file, text.encode())
    finally:
        os.close(file)
