"""What is done to a fleet, and whether a healthy attempt may end of it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.chaos.fleet import LOST_S, Fleet, await_that

PAUSE_S = LOST_S + 10.0  # longer than a host may be silent
DOWN_S = 2.0
FULL_S = 15.0
POSTGRES_DOWN_S = 5.0


@dataclass(frozen=True)
class Fault:
    """do: causes it, and repairs it; seconds until `tuneyard hosts` told of a host that is lost, else None.

    ends: attempts that may end of it without success. What was healthy, and reachable all the time or again before it
    counted as lost, must go on: 0.
    """

    name: str
    do: Callable[[Fleet, int], float | None]
    ends: int
    on_postgres: bool = False  # whether the fleet's database is one, of the benchmark's own


@contextmanager
def paused(process: psutil.Process, for_s: float) -> Iterator[None]:
    process.suspend()
    try:
        time.sleep(for_s)
        yield
    finally:
        with suppress(psutil.NoSuchProcess):  # what hung is replaced
            process.resume()


def kill_server(fleet: Fleet, job: int) -> None:
    fleet.recorded("server").kill()
    time.sleep(DOWN_S)
    fleet.up()


def pause_server(fleet: Fleet, job: int) -> None:
    with paused(fleet.recorded("server"), PAUSE_S):
        pass


def kill_agent(fleet: Fleet, job: int) -> None:
    fleet.recorded("host").kill()
    time.sleep(DOWN_S)
    fleet.up()


def pause_agent(fleet: Fleet, job: int) -> None:
    with paused(fleet.recorded("host"), PAUSE_S):
        pass


def kill_trainer(fleet: Fleet, job: int) -> None:
    """Where it has not started: as soon as it has."""
    await_that(lambda: bool(fleet.trainers(job)), 240.0, "trainer", 0.01)
    for process in fleet.trainers(job):
        process.kill()


def kill_dispatcher(fleet: Fleet, job: int) -> None:
    fleet.dispatcher().kill()


def pause_dispatcher(fleet: Fleet, job: int) -> None:
    with paused(fleet.dispatcher(), PAUSE_S):
        pass


def kill_head(fleet: Fleet, job: int) -> None:
    fleet.gcs().kill()


def kill_raylet(fleet: Fleet, job: int) -> None:
    fleet.raylet().kill()


def lose_host(fleet: Fleet, job: int) -> float:
    """Everything of it at once; it comes back a while after that was noticed."""
    for process in [fleet.recorded("host"), fleet.raylet(), *fleet.trainers(job)]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    noticed = await_that(lambda: fleet.json("hosts")["hosts"][0]["state"] != "online", 120.0, "lost host")
    fleet.up()
    return noticed


def fill_disk(fleet: Fleet, job: int) -> None:
    """Of the home, a file system of its own: not a byte is left for a while."""
    filler = fleet.home / "filler"
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={filler}", "bs=1M", "status=none"], capture_output=True, check=False
    )
    time.sleep(FULL_S)
    filler.unlink()


def kill_postgres(fleet: Fleet, job: int) -> None:
    """The postmaster, with writes under way; it recovers as it starts again."""
    assert fleet.postgres is not None
    fleet.postgres.kill()
    time.sleep(POSTGRES_DOWN_S)
    fleet.postgres.start()


FAULTS = (
    Fault("server killed", kill_server, 0),
    Fault("server paused", pause_server, 0),
    Fault("agent killed", kill_agent, 0),
    Fault("agent paused", pause_agent, 1),
    Fault("trainer killed", kill_trainer, 1),
    Fault("dispatcher killed", kill_dispatcher, 0),
    Fault("dispatcher paused", pause_dispatcher, 0),
    Fault("Ray's head killed", kill_head, 0),
    Fault("raylet killed", kill_raylet, 1),
    Fault("host lost", lose_host, 1),
    Fault("disk full", fill_disk, 1),
    Fault("PostgreSQL killed", kill_postgres, 0, on_postgres=True),
)


@contextmanager
def own_disk(folder: Path, size: str) -> Iterator[bool]:
    """A small file system of memory at folder; whether there is one: it takes root."""
    folder.mkdir(mode=0o700)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    try:
        yield not done.returncode
    finally:
        if not done.returncode:
            subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)
