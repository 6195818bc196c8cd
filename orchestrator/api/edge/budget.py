"""What a request and a client may cost: bytes, time, and requests at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from jobs.errors import Busy, TooLarge
from jobs.units import MiB, gib

SUBMISSION_BYTES = 16 * MiB  # some 10,000 job files
REPORT_BYTES = 16 * MiB  # a host's news of an hour that the server was away
# A job file has at most 256 KiB, three times that as JSON; the rest is small.
BODY_BYTES, PLAIN_BYTES = MiB, 256 * 1024
PIECE_BYTES = 2 * MiB  # of a file that is carried, which nobody parses
SMALL_BYTES = 64 * 1024  # a submission of this size need not wait for those that are larger

CPU_S = 10.0  # of one submission: ten times what 10,000 job files take
WALL_S = 60.0  # of one, with what its disks take
AT_ONCE = 2  # large submissions of one client
WAITING = 16  # large submissions of all
SAVED_S = 30.0  # time of the processor that a client may use at once
SHARE = 0.5  # of one processor, that a client may use for good
LOOK_EVERY_S = (
    0.005  # at the time of a thread: a call to the kernel, which costs a tenth of what reading a job does
)


@dataclass
class _Client:
    """What one client has left. left_s: below zero, it is asked to wait."""

    left_s: float = SAVED_S
    seen_at: float = 0.0
    large: int = 0


class Budget:
    """Says no before the work is done. For the event loop alone: nothing here waits or locks."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._clients: dict[str, _Client] = {}
        self._large = 0

    def enter(self, address: str, size: int) -> _Client:
        """A submission of so many bytes begins. Raises Busy with when to come again."""
        client = self._refilled(address)
        if client.left_s <= 0:
            wait_s = math.ceil(-client.left_s / SHARE) + 1
            raise Busy(f"submissions from {address} have used up what one client may for now", wait_s)
        if size <= SMALL_BYTES:
            return client
        if client.large >= AT_ONCE:
            raise Busy(f"{AT_ONCE} large submissions from {address} are being read already", 2)
        if self._large >= WAITING:
            raise Busy(f"{WAITING} large submissions are waiting already", 5)
        client.large += 1
        self._large += 1
        return client

    def leave(self, client: _Client, size: int, used_s: float) -> None:
        """It is done. used_s: of the processor."""
        client.left_s -= used_s
        if size > SMALL_BYTES:
            client.large -= 1
            self._large -= 1

    def _refilled(self, address: str) -> _Client:
        now = self._clock()
        if len(self._clients) > 10_000:  # those that have not used up anything need not be known
            full_s = SAVED_S / SHARE
            self._clients = {
                name: one for name, one in self._clients.items() if one.large or now - one.seen_at < full_s
            }
        client = self._clients.setdefault(address, _Client(seen_at=now))
        client.left_s = min(SAVED_S, client.left_s + SHARE * (now - client.seen_at))
        client.seen_at = now
        return client


class Allowance:
    """The time of one submission, looked at between its jobs, in the thread that works on it."""

    def __init__(self, cpu_s: float = CPU_S, wall_s: float = WALL_S) -> None:
        self._cpu_s, self._wall_s = cpu_s, wall_s
        self._cpu_from, self._from = time.thread_time(), time.monotonic()
        self._look_at = self._from

    @property
    def used_s(self) -> float:
        """Of the processor."""
        return time.thread_time() - self._cpu_from

    def check(self) -> None:
        """Raises TooLarge once it is used up."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at, wall_s = now + LOOK_EVERY_S, now - self._from
        if self.used_s > self._cpu_s or wall_s > self._wall_s:
            raise TooLarge(
                f"the jobs of this submission take more than {self._cpu_s:g} s to read, or {self._wall_s:g} s with "
                "their files: nothing was stored. Submit fewer together"
            )


def check_size(size: int, most: int, what: str) -> None:
    """Raises TooLarge."""
    if size > most:
        raise TooLarge(f"the body has {gib(size)}, and {what} has at most {gib(most)}")
