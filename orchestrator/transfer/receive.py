"""A result comes to this machine: resumed where it broke off, compared with its manifest, put in place whole.

Used by the command line and the Python client; each has its own transport. Nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from jobs.errors import Conflict, NotFound, TuneyardError, Unavailable, UsageError
from jobs.units import gib

MANIFEST = "manifest.json"
PATIENCE_S = 120.0  # without a byte
PAUSE_S = 2.0
_READ_BYTES = 1 << 20


class Source(Protocol):
    """The server. Both raise Unavailable where it broke off, and may be asked again."""

    def result(self) -> Any:
        """`GET /jobs/{id}/result`."""

    def files(self, manifest_sha256: str, offset: int) -> Iterator[bytes]:
        """The bytes of its files from an offset over all of them."""


@dataclass(frozen=True)
class Pulled:
    """What is in the folder now. came: bytes that were fetched for it; 0 where all were there."""

    folder: Path
    bytes: int
    files: int
    came: int


def default_folder(found: Any) -> Path:
    """Where a result goes that is given no folder: no job has that of another."""
    return Path(f"job-{found['job']}-{found['name']}" if found["name"] else f"job-{found['job']}")


def no_progress(have: int, total: int) -> None:
    """Says nothing."""


def pull(
    source: Source,
    target: Path | None,
    tell: Callable[[int, int], None] = no_progress,
    say: Callable[[str], None] = lambda text: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Pulled:
    """Copy a job's result into a folder: `target`, or default_folder().

    tell: bytes that are here, of how many. A server or host that is away is waited for. Raises UsageError where the
    folder is taken, Conflict and NotFound where the result was changed on its host, TuneyardError where a file is not
    what the manifest says. Then nothing is put in place; what has come whole is kept and not fetched again, unless it
    is of a result that is no longer there.
    """
    patience = _Patience(say, sleep, clock, PATIENCE_S)
    found = source.result()  # not waited for: only what was there once is
    files = _files(found)
    target = (target or default_folder(found)).absolute()
    if _taken(target, found, files):
        return Pulled(target, found["bytes"], len(files), 0)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".{target.name}.pull-{found['job']}-{found['manifest_sha256'][:12]}")
    for stale in target.parent.glob(f"{glob.escape(f'.{target.name}.pull-')}{found['job']}-*"):
        if stale != staging:  # of a result that was replaced
            _remove(stale)
    staging.mkdir(exist_ok=True)
    with _alone(staging), _kept(staging):
        files_here = _Staged(staging, files)
        missing = found["bytes"] - files_here.have
        free = shutil.disk_usage(staging).free
        if free < missing:
            raise TuneyardError(
                f"{gib(missing)} are to come, and the disk of {target.parent} has {gib(free)} left"
            )
        came = 0
        tell(files_here.have, found["bytes"])
        while not files_here.whole:
            before = files_here.have
            try:
                with contextlib.closing(files_here):
                    for piece in source.files(found["manifest_sha256"], files_here.have):
                        files_here.write(piece, found["host"])
                        came += len(piece)
                        tell(files_here.have, found["bytes"])
                if not files_here.whole:
                    raise Unavailable("the server stopped before the end")
            except Unavailable as error:
                patience.bear(error, files_here.have > before)
        _publish(staging, target, found["manifest"])
    return Pulled(target, found["bytes"], len(files), came)


@dataclass
class _Patience:
    """Bears a server or host that is away for a while, counted from the last byte."""

    say: Callable[[str], None]
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    limit_s: float

    def __post_init__(self) -> None:
        self._since: float | None = None
        self._told = False

    def bear(self, error: Unavailable, moved: bool) -> None:
        now = self.clock()
        if self._since is None or moved:
            self._since, self._told = now, False
        elif not self._told:  # at the first break, the next answer may say more than that it broke
            self.say(f"{error} (waiting for it)")
            self._told = True
        if now - self._since > self.limit_s:
            raise error
        self.sleep(PAUSE_S)


class _Staged:
    """The files of a result as far as they are here: all before one place are whole, none after it."""

    def __init__(self, folder: Path, files: Mapping[str, tuple[int, str]]) -> None:
        self._folder = folder
        self._left = sorted(files.items())
        self.have = 0
        self._file: Any = None
        self._digest = hashlib.sha256()
        self._begin()
        for name, _ in self._left[1:]:  # bytes come in order: what is after a gap is of no use
            (folder / name).unlink(missing_ok=True)

    @property
    def whole(self) -> bool:
        return not self._left

    def close(self) -> None:
        """What was written goes on where it is; the next write opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, data: bytes, host: str) -> None:
        """The bytes that follow. Raises TuneyardError where a file is not what the manifest says."""
        view = memoryview(data)
        while view:
            if not self._left:
                raise TuneyardError("the server sent more than the manifest lists")
            name, (size, _) = self._left[0]
            file = self._opened(name)
            part = view[: size - file.tell()]
            file.write(part)
            self._digest.update(part)
            self.have += len(part)
            view = view[len(part) :]
            if file.tell() == size:
                self._end(host)

    def _begin(self) -> None:
        """Pass over what is whole, and go on within the first that is not."""
        while self._left:
            name, (size, expected) = self._left[0]
            path = self._folder / name
            self._digest = hashlib.sha256()
            if path.is_symlink() or (path.exists() and not path.is_file()):
                raise TuneyardError(f"{path} is no plain file; remove {self._folder} and pull again")
            has = path.stat().st_size if path.exists() else 0
            if has > size:
                path.unlink()
                has = 0
            if has:
                with path.open("rb") as file:
                    while piece := file.read(_READ_BYTES):
                        self._digest.update(piece)
            if has < size:
                self.have += has
                return
            if self._digest.hexdigest() != expected:
                path.unlink(missing_ok=True)
                if size:
                    self._digest = hashlib.sha256()
                    return
                raise TuneyardError(f"the manifest is wrong about {name}, which is empty")
            if not size:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            self.have += size
            self._left.pop(0)

    def _opened(self, name: str) -> Any:
        if self._file is None:
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
        return self._file

    def _end(self, host: str) -> None:
        name, (size, expected) = self._left[0]
        self._file.flush()
        os.fsync(self._file.fileno())
        self.close()
        if self._digest.hexdigest() != expected:
            (self._folder / name).unlink()
            self.have -= size
            raise TuneyardError(
                f"{name} does not match its checksum: on host {host} it is damaged or was changed; "
                f"nothing was put in place. What has come is kept in {self._folder} for the next pull"
            )
        self._left.pop(0)
        self._begin()


def _files(found: Any) -> dict[str, tuple[int, str]]:
    """Size and sha256 by name, as the manifest has it, not as the server tells. Raises TuneyardError."""
    try:
        listed = json.loads(found["manifest"])["files"]
        files = {str(name): (int(of["size"]), str(of["sha256"])) for name, of in listed.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TuneyardError("the manifest of the result is damaged; nothing was fetched") from None
    if hashlib.sha256(found["manifest"].encode()).hexdigest() != found["manifest_sha256"]:
        raise TuneyardError("the manifest of the result came damaged; nothing was fetched")
    for name, (size, _) in files.items():
        path = PurePosixPath(name)
        plain = (
            name == path.as_posix() and not path.is_absolute() and ".." not in path.parts and "\0" not in name
        )
        if not plain or name in ("", ".", MANIFEST) or size < 0:
            raise TuneyardError(
                f"the manifest lists {name!r}, which is no file of a result; nothing was fetched"
            )
    return files


def _taken(target: Path, found: Any, files: Mapping[str, tuple[int, str]]) -> bool:
    """Whether this very result is there already. Raises UsageError for anything else than an empty folder."""
    if not target.is_symlink() and not target.exists():
        return False
    if target.is_dir() and not any(target.iterdir()):
        return False
    try:
        same = (target / MANIFEST).read_text(encoding="utf-8") == found["manifest"]
    except (OSError, UnicodeDecodeError):
        same = False
    if not same:
        raise UsageError(
            f"{target} exists and is not this result; name another folder: `tuneyard pull {found['job']} DIR`"
        )
    for name, (size, expected) in files.items():
        path = target / name
        if not path.is_file() or path.stat().st_size != size or _sha256(path) != expected:
            raise UsageError(
                f"{path} is not what the result has; move {target} away, or name another folder to pull into"
            )
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _kept(staging: Path) -> Iterator[None]:
    """What has come is of use to a later pull, unless the result was changed on its host, or nothing has."""
    try:
        yield
    except (Conflict, NotFound):
        shutil.rmtree(staging, ignore_errors=True)
        raise
    except TuneyardError:
        with contextlib.suppress(OSError):
            staging.rmdir()
        raise


def _remove(folder: Path) -> None:
    """Unless a pull writes to it."""
    with contextlib.suppress(Conflict, OSError), _alone(folder):
        shutil.rmtree(folder)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One pull at a time. Raises Conflict."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Conflict(f"another pull of this result writes to {folder}; wait for it, or end it") from None
    finally:
        os.close(handle)


def _publish(staging: Path, target: Path, manifest: str) -> None:
    """Raises UsageError where something was made there meanwhile."""
    with (staging / MANIFEST).open("w", encoding="utf-8") as file:
        file.write(manifest)
        file.flush()
        os.fsync(file.fileno())
    try:
        staging.rename(target)  # onto an empty folder, too
    except OSError as error:
        raise UsageError(
            f"{target} can't be put in place ({error.strerror}); all of it is in {staging}"
        ) from None
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
