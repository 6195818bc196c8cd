"""The line to another host's checkpoints: a Ray actor there reads them, over Ray's own transport and its token."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from jobs.messages.reports import Kept
from workers.checkpoints.manifest import Corrupt
from workers.checkpoints.transfer import Keeper, Offer, SourceLost

# Pieces on the way at a time are held by the object store of both hosts, which has 80 MB (workers/agent/raylet.py).
PIECE_BYTES = 4 << 20
AT_A_TIME = 3
QUIET_S = 60.0  # without an answer; a new actor takes 1 to 8 s to come up
LOOK_S = 1.0


class Courier:
    """Reads the checkpoints of one job on its host."""

    def __init__(self, home: str, job_id: int) -> None:
        self._keeper = Keeper(home, job_id)

    def offers(self, after: int) -> list[Offer]:
        return self._keeper.offers(after)

    def read(self, step: int, name: str, begin: int, size: int) -> bytes:
        return self._keeper.read(step, name, begin, size)


@contextmanager
def reach(place: Kept, job_id: int, obey: Callable[[], None]) -> Iterator[Line]:
    """A courier on that host, for as long as the block runs. See workers.checkpoints.transfer.Reach."""
    if place.host not in hosts_alive():
        raise SourceLost(f"host {place.host} is not in the Ray cluster")
    courier = (
        ray.remote(num_cpus=0, max_restarts=0)(Courier)
        .options(label_selector={"host": place.host})
        .remote(place.home, job_id)
    )
    try:
        yield Line(courier, obey)
    finally:
        ray.kill(courier)


class Line:
    """A workers.checkpoints.transfer.Source."""

    def __init__(self, courier: Any, obey: Callable[[], None]) -> None:
        self._courier, self._obey = courier, obey

    def offers(self, after: int) -> list[Offer]:
        found: list[Offer] = self._get(self._courier.offers.remote(after))
        return found

    def read(self, step: int, name: str, begin: int, end: int) -> Iterator[bytes]:
        coming: deque[Any] = deque()
        while coming or begin < end:
            while begin < end and len(coming) < AT_A_TIME:
                size = min(PIECE_BYTES, end - begin)
                coming.append(self._courier.read.remote(step, name, begin, size))
                begin += size
            piece: bytes = self._get(coming.popleft())
            yield piece

    def _get(self, answer: Any) -> Any:
        quiet_from = time.monotonic()
        while not ray.wait([answer], timeout=LOOK_S)[0]:
            self._obey()
            if time.monotonic() - quiet_from > QUIET_S:
                raise SourceLost(f"nothing came for {QUIET_S:.0f} s")
        try:
            return ray.get(answer)
        except RayTaskError as error:
            if isinstance(error.cause, Corrupt):
                raise error.cause from None
            raise SourceLost(f"{type(error.cause).__name__}: {error.cause}") from error
        except RayError as error:
            raise SourceLost(str(error).splitlines()[0]) from error


def hosts_alive() -> dict[str, str]:
    """Address of each host whose raylet is in the cluster. Ray waits for ever for a label that nobody has."""
    return {
        node["Labels"]["host"]: node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"] and "host" in node.get("Labels", {})
    }
