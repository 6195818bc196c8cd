"""Ranks of one attempt on one host watch each other: when one fails, all end, and the outcome names that one.

Ranks on other hosts are watched by the agents there, which tell the server, which has all hosts end the attempt.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import psutil

from jobs.messages.reports import Assignment, Ended, Started
from jobs.state import Outcome
from workers.attempt_folder import AttemptFolder

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
START_S = 120.0  # for every rank to come up: imports take 5 to 9 s, on a busy host more
GRACE_S = 10.0  # for a rank to end by itself, with its own exception, before it is ended


def environment(assignment: Assignment) -> dict[str, str]:
    """What a rank's process must have in its environment before CUDA and torch.distributed start."""
    cards = [card.uuid for card in assignment.cards_here if card.kind == "cuda"]
    values = {"CUDA_VISIBLE_DEVICES": ",".join(cards)}
    if assignment.world_size > 1:
        values |= {
            "RANK": str(assignment.rank),
            "LOCAL_RANK": str(assignment.local_rank),
            "WORLD_SIZE": str(assignment.world_size),
            "LOCAL_WORLD_SIZE": str(len(assignment.ranks_here)),
            "MASTER_ADDR": assignment.master_addr,
            "MASTER_PORT": str(assignment.master_port),
        }
    interface = interface_of(assignment.address) if assignment.spans else None
    if interface is not None:
        # Left alone, both guess: gloo by the host's name, which may well stand for 127.0.1.1.
        wanted = {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": f"={interface}"}
        values |= {name: value for name, value in wanted.items() if name not in os.environ}
    return values


def interface_of(address: str) -> str | None:
    """The network interface of this machine that carries an address; None where none does."""
    for name, carried in psutil.net_if_addrs().items():
        if address in {one.address.partition("%")[0] for one in carried}:
            return name
    return None


def failed_peer(folder: AttemptFolder, assignment: Assignment) -> tuple[int, Ended] | None:
    """Another rank of this host that failed or died, and how; None while all are well."""
    started = folder.processes()
    for local, rank in enumerate(assignment.ranks_here):
        if rank == assignment.rank:
            continue
        process = started.get(local)
        alive = process is not None and is_alive(process)
        ended = folder.ended(local)  # read after the process was looked at: its last act is to write this
        if ended is not None and ended.outcome is not Outcome.SUCCEEDED:
            return rank, ended
        if ended is None and process is not None and not alive:
            return rank, Ended(ts=time.time(), outcome=Outcome.LOST, message=f"process {process.pid} died")
    return None


def as_mine(assignment: Assignment, rank: int, ended: Ended) -> dict[str, Any]:
    """How a rank ends that only follows another of its host: outcome, message and the rest of who failed."""
    how = {"outcome": ended.outcome, "bad_input": ended.bad_input}
    if assignment.spans:
        return {**how, "message": ended.message, "rank": rank, "echo": ended.echo}
    return {**how, "message": f"rank {rank}: {ended.message}"}


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

    Use as a context around all that waits for others: building and training. give_up(**how) records why (fields of
    Ended), before the process ends.
    """

    def __init__(self, assignment: Assignment, folder: AttemptFolder, give_up: Callable[..., None]) -> None:
        self._assignment, self._folder, self._give_up = assignment, folder, give_up
        self._over = threading.Event()
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        if len(self._assignment.ranks_here) > 1:
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
                log.error("ending this rank: %s", trouble)
                self._give_up(**trouble)
                sys.stderr.flush()
                os._exit(1)

    def _trouble(self) -> dict[str, Any] | None:
        peer = failed_peer(self._folder, self._assignment)
        if peer is not None:
            return as_mine(self._assignment, *peer)
        here = self._assignment.ranks_here
        missing = set(range(len(here))) - set(self._folder.processes())
        if missing and time.monotonic() - self._began > START_S:
            ranks = ", ".join(str(here[local]) for local in sorted(missing))
            message = f"rank {ranks} did not start within {START_S:.0f}s"
            return {"outcome": Outcome.NOT_STARTED, "message": message}
        return None
