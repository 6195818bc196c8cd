"""A job's checkpoint comes from the host that has it: in pieces, checked against its manifest, put in place whole."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from jobs.errors import TuneyardError
from jobs.identity import Owner, fault_of
from jobs.messages.reports import Kept
from jobs.units import gib, span
from workers.attempt_folder import checkpoints_root
from workers.checkpoints.folders import listed, name_of, prune, put_in_place, take_over
from workers.checkpoints.manifest import MANIFEST, Corrupt, files_in
from workers.durable import sync_file, sync_folder

log = logging.getLogger(__name__)

# For all of it. Ranks on other hosts wait for rank 0 meanwhile, for 1,800 s at most
# (workers.trainer.ranks.rendezvous.QUIET_S).
FETCH_S = 1500.0
# Between tries that brought nothing: a raylet that comes up again takes 5 s, on a busy host more.
PAUSES_S = (2.0, 4.0, 8.0, 16.0, 30.0)
SAY_EVERY_S = 10.0
LOOK_S = 0.2
Offer = tuple[int, str]  # the step of a checkpoint, and its manifest


class SourceLost(TuneyardError):
    """The host that has a checkpoint can't be reached, or stopped sending."""


class Source(Protocol):
    """Another host's checkpoints of one job. All methods raise SourceLost; read also Corrupt."""

    def offers(self, after: int) -> list[Offer]:
        """Its checkpoints of later steps than this, newest first."""

    def read(self, step: int, name: str, begin: int, end: int) -> Iterator[bytes]:
        """The bytes from begin to end of a file, in pieces."""


# (whose, of which job, called while it waits: raises where the attempt is to stop) -> the line to it.
Reach = Callable[[Kept, int, Callable[[], None]], AbstractContextManager[Source]]


class Keeper:
    """Reads a job's checkpoints on this host for another: files that their manifests list, nothing else."""

    def __init__(self, home: Path | str, job_id: int) -> None:
        self._root = checkpoints_root(home, job_id)
        self._files: dict[int, frozenset[str]] = {}

    def offers(self, after: int) -> list[Offer]:
        """Complete ones of later steps, newest first, as their manifests say. Verify the one that you take."""
        found = []
        for path, step in reversed(listed(self._root)):
            if step > after:
                try:
                    found.append((step, (path / MANIFEST).read_text()))
                except (OSError, ValueError) as error:
                    log.warning("checkpoint %s is not offered: %s", path, error)
        return found

    def read(self, step: int, name: str, begin: int, size: int) -> bytes:
        """A piece of a file. Raises Corrupt where its checkpoint has none there, OSError where it can't be read."""
        folder = self._root / name_of(step)
        try:
            if step not in self._files:
                self._files[step] = frozenset(files_in((folder / MANIFEST).read_text()))
            path = folder / name
            if name not in self._files[step] or not path.resolve().is_relative_to(folder.resolve()):
                raise Corrupt(f"{name!r} is no file of {folder.name}")
            with path.open("rb") as file:
                file.seek(begin)
                piece = file.read(size)
        except FileNotFoundError as error:
            raise Corrupt(f"{error.filename} is missing") from None
        if len(piece) < size:
            raise Corrupt(f"{name} ends after {begin + len(piece)} bytes")
        return piece


@dataclass
class Carrier:
    """Brings the newest checkpoint of a job to this host. obey: raises where the attempt is to stop.

    root: of this host's checkpoints of the job; staging: of the attempt, on the same file system.
    """

    owner: Owner
    root: Path
    staging: Path
    reach: Reach
    obey: Callable[[], None]
    before: Owner | None = None  # the job whose checkpoints it may go on from
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _until: float = 0.0
    _received: int = 0
    _bad: set[str] = field(
        default_factory=set
    )  # manifests of checkpoints that are not what these say, or another's

    def newest(self, kept: Sequence[Kept], own: tuple[Path, int] | None) -> tuple[Path, int] | None:
        """The newest that can be had, with its step: own, this host's, or one that is fetched.

        Says what it fetches, and what it could not. Raises only what obey raises.
        """
        self._until = self.clock() + FETCH_S
        best = own
        for place in kept:
            has = best[1] if best else 0
            if place.step is not None and place.step <= has:
                continue
            if place.away:
                log.warning("host %s has %s, and does not answer", place.host, _what(place))
                continue
            best = self._from(place, has) or best
        known = max((place.step or 0 for place in kept), default=0)
        if known > (best[1] if best else 0):
            log.warning(
                "the checkpoint of step %d can't be had, so this attempt goes on from %s",
                known,
                f"that of step {best[1]}" if best else "step 0",
            )
        return best

    def _from(self, place: Kept, has: int) -> tuple[Path, int] | None:
        """The newest good one of a host that is later than what this host has."""
        failed = 0
        while True:
            before = self._received
            try:
                with self.reach(place, place.job_id or self.owner.job_id, self.obey) as source:
                    return self._first_good(source, place, has)
            except SourceLost as error:
                failed = 1 if self._received > before else failed + 1
                late = self.clock() > self._until
                if late or failed > len(PAUSES_S):
                    log.warning("%s can't be fetched from host %s: %s", _what(place), place.host, error)
                    return None
                log.info("host %s: %s; it is tried again in %g s", place.host, error, PAUSES_S[failed - 1])
                self._rest(PAUSES_S[failed - 1])
            except OSError as error:
                log.warning("%s of host %s can't be stored here: %s", _what(place), place.host, error)
                shutil.rmtree(self._staged, ignore_errors=True)  # the trainer needs the room
                return None

    def _rest(self, pause_s: float) -> None:
        until = self.clock() + pause_s
        while self.clock() < until:
            self.obey()
            self.sleep(LOOK_S)

    def _first_good(self, source: Source, place: Kept, has: int) -> tuple[Path, int] | None:
        whose = self.owner if place.job_id in (None, self.owner.job_id) else self.before
        while offers := [offer for offer in source.offers(has) if self._takes(offer, place, whose)]:
            step, manifest = offers[0]
            try:
                return self._copy(source, place, step, manifest), step
            except Corrupt as error:
                self._pass_over(place, step, manifest, str(error))
        return None

    def _takes(self, offer: Offer, place: Kept, whose: Owner | None) -> bool:
        step, manifest = offer
        if manifest in self._bad:
            return False
        with contextlib.suppress(ValueError, AttributeError):  # it is no manifest
            own = whose is self.owner
            fault = fault_of(json.loads(manifest), whose, own=own) if whose else "is of a job nobody named"
            if fault:
                self._pass_over(place, step, manifest, f"it {fault}")
                return False
        return True  # taking it says what is wrong with it

    def _pass_over(self, place: Kept, step: int, manifest: str, why: str) -> None:
        self._bad.add(manifest)
        log.warning("checkpoint %s of host %s is passed over: %s", name_of(step), place.host, why)

    @property
    def _staged(self) -> Path:
        return self.staging / "carried"

    def _copy(self, source: Source, place: Kept, step: int, manifest: str) -> Path:
        """Raises Corrupt, SourceLost, OSError; what has come by then is gone on from."""
        files, staged = files_in(manifest), self._staged
        if not (staged / MANIFEST).is_file() or (staged / MANIFEST).read_text() != manifest:
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir(parents=True)
            (staged / MANIFEST).write_text(manifest)
        total = sum(size for size, _ in files.values())
        there = sum(_size(staged / name) for name in files)
        free = shutil.disk_usage(staged).free
        if free < total - there:
            raise OSError(errno.ENOSPC, f"it takes {gib(total - there)}, and the disk has {gib(free)} left")
        log.info("checkpoint %s (%s) is fetched from host %s", name_of(step), gib(total), place.host)
        tally = _Tally(total, there, self.clock)
        for name, (size, sha256) in sorted(files.items()):
            for count in _receive(source, step, name, staged / name, size, sha256):
                self._received += count
                tally.add(count)
                if self.clock() > self._until:
                    raise SourceLost(f"{tally.text} came within {span(FETCH_S)}")
                self.obey()
        for path in [staged, *(one for one in staged.rglob("*") if one.is_dir())]:
            sync_folder(path)
        sync_file(staged / MANIFEST)
        if place.job_id not in (None, self.owner.job_id):
            take_over(staged, self.owner)
        found = put_in_place(staged, self.root / name_of(step))
        prune(self.root)
        log.info("checkpoint %s is here: %s", name_of(step), tally.text)
        return found


@dataclass
class _Tally:
    """How far a transfer is; said once in a while."""

    total: int
    have: int
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self._began = self._said = self.clock()
        self._came = 0

    @property
    def text(self) -> str:
        rate = self._came / max(1e-3, self.clock() - self._began)
        return f"{gib(self.have)} of {gib(self.total)}, {gib(int(rate))}/s"

    def add(self, count: int) -> None:
        self.have, self._came = self.have + count, self._came + count
        if self.clock() - self._said >= SAY_EVERY_S:
            self._said = self.clock()
            log.info("fetched %s", self.text)


def _receive(source: Source, step: int, name: str, path: Path, size: int, sha256: str) -> Iterator[int]:
    """A file, from where it stopped; the bytes of each piece as it comes. Raises Corrupt where it is another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("a+b") as file:
        file.seek(0)
        while piece := file.read(1 << 20):
            digest.update(piece)
        for piece in source.read(step, name, file.tell(), size):
            file.write(piece)
            digest.update(piece)
            yield len(piece)
        file.flush()
        os.fsync(file.fileno())
        has = file.tell()
    if has < size:
        raise SourceLost(f"{name} ended after {has} of {size} bytes")
    if has > size or digest.hexdigest() != sha256:
        path.unlink()
        raise Corrupt(f"{name} does not match its checksum")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _what(place: Kept) -> str:
    return "a checkpoint" if place.step is None else f"the checkpoint of step {place.step}"
