"""Ranks of one attempt watch each other: when one fails, all end, and the outcome names that one."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import psutil

from jobs.report import Assignment, Ended, Started
from jobs.state import Outcome
from workers.folder import AttemptFolder

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
START_S = 120.0  # for every rank to come up: imports take 5 to 9 s, on a busy host more
GRACE_S = 10.0  # for a rank to end by itself, with its own exception, before it is ended


def environment(assignment: Assignment) -> dict[str, str]:
    """What a rank's process must have in its environment before CUDA and torch.distributed start."""
    cards = [card.uuid for card in assignment.gpus if card.kind == "cuda"]
    values = {"CUDA_VISIBLE_DEVICES": ",".join(cards)}
    if assignment.world_size > 1:
        values |= {
            "RANK": str(assignment.rank),
            "LOCAL_RANK": str(assignment.rank),
            "WORLD_SIZE": str(assignment.world_size),
            "LOCAL_WORLD_SIZE": str(assignment.world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(assignment.master_port),
        }
    return values


def failed_peer(folder: AttemptFolder, assignment: Assignment) -> tuple[int, Ended] | None:
    """Another rank that failed or died, and how; None while all are well."""
    started = folder.processes()
    for rank in range(assignment.world_size):
        if rank == assignment.rank:
            continue
        process = started.get(rank)
        alive = process is not None and is_alive(process)
        ended = folder.ended(rank)  # read after the process was looked at: its last act is to write this
        if ended is not None and ended.outcome is not Outcome.SUCCEEDED:
            return rank, ended
        if ended is None and process is not None and not alive:
            return rank, Ended(ts=time.time(), outcome=Outcome.LOST, message=f"process {process.pid} died")
    return None


def wait_for_failed_peer(
    folder: AttemptFolder, assignment: Assignment, wait_s: float
) -> tuple[int, Ended] | None:
    """The same, for a rank whose own exception may only be the echo of another's."""
    deadline = time.monotonic() + wait_s
    while True:
        peer = failed_peer(folder, assignment)
        if peer is not None or time.monotonic() > deadline:
            return peer
        time.sleep(0.1)


def is_alive(started: Started) -> bool:
    """Whether the process still runs: the same one, not a later one with its pid."""
    try:
        process = psutil.Process(started.pid)
        same = abs(process.create_time() - started.create_time) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Watch:
    """Ends this process when another rank is gone, for it may hang for ever in a collective.

    Use as a context around all that waits for others: building and training. give_up(outcome, message) records
    why, before the process ends.
    """

    def __init__(
        self, assignment: Assignment, folder: AttemptFolder, give_up: Callable[[Outcome, str], None]
    ) -> None:
        self._assignment, self._folder, self._give_up = assignment, folder, give_up
        self._over = threading.Event()
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        if self._assignment.world_size > 1:
            threading.Thread(target=self._look, name="gang", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def _look(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            trouble = self._trouble()
            if trouble is not None and not self._over.wait(GRACE_S):
                log.error("ending this rank: %s", trouble[1])
                self._give_up(*trouble)
                sys.stderr.flush()
                os._exit(1)

    def _trouble(self) -> tuple[Outcome, str] | None:
        peer = failed_peer(self._folder, self._assignment)
        if peer is not None:
            return peer[1].outcome, f"rank {peer[0]}: {peer[1].message}"
        missing = set(range(self._assignment.world_size)) - set(self._folder.processes())
        if missing and time.monotonic() - self._began > START_S:
            ranks = ", ".join(str(rank) for rank in sorted(missing))
            return Outcome.NOT_STARTED, f"rank {ranks} did not start within {START_S:.0f}s"
        return None
