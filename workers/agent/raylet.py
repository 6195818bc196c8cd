"""The raylet of this host: started, followed to a new head, ended with all that belongs to it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from workers import processes
from workers.durable import publish

log = logging.getLogger(__name__)

MARK = "TUNEYARD_RAYLET"  # environment variable that a raylet's processes inherit
# A raylet ends itself, and its workers with it, when the head stays away for this long; Ray's default of 60 s
# would let a restart of the control host cost the training on every other one.
HEAD_AWAY_S = 86_400
_RAY = (sys.executable, "-m", "workers.ray_network")
_STARTED = b"Ray runtime started."  # printed by `ray start` (ray/scripts/scripts.py, 2.60)
# Within a folder of our own: Ray opens its temporary folder to everyone (chmod 0777, ray/_common/utils.py, 2.60).
_RAYS = "r"
_SOCKET_ROOM = 36  # characters of our folder: /r and Ray add up to 71, a Unix socket's path ends at 107
_BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
_TERM_S = 6.0  # `ray start` takes 3 s to leave a head that is there; without one it hangs


@dataclass(frozen=True)
class _Child:
    """One `ray start --block`. Kept in a file, so that the next agent finds it."""

    pid: int
    create_time: float
    address: str
    mark: str

    def find(self) -> psutil.Process | None:
        return processes.find(self.pid, self.create_time)

    def members(self) -> list[psutil.Process]:
        return processes.marked(MARK, self.mark, session=self.pid)


class Raylet:
    """At most one raylet that takes work, and old ones for as long as a trainer of theirs runs.

    When the head's address changes, the old raylet and its idle actors are ended once none of its processes
    trains: a trainer only writes files, it needs no head. When a raylet dies, its trainers that still run go
    on; the rest of its processes is ended. A raylet outlives an agent that crashed: the next takes it over.
    """

    def __init__(self, home: Path, host_name: str, ray: Sequence[str] = _RAY) -> None:
        """ray: the command line tool of Ray."""
        self._home = home
        self._ray = ray
        self._host_name = host_name
        self._state = home / "raylets.json"
        self._log_path = home / "raylet.log"
        self._children = [child for child in _load(self._state) if child.members()]
        self._popen: dict[int, subprocess.Popen[bytes]] = {}  # by pid: to be waited for
        self._ready: set[str] = {child.mark for child in self._children}
        self._log_from = 0
        self._failures = 0
        self._not_before = 0.0

    def follow(self, address: str | None, token: str, trainers: set[int], now: float) -> None:
        """Be part of the head at this address (ip:port); None: there is none now, so stay as it is.

        trainers: pids that must not be ended; now: Unix seconds, between tries that fail.
        """
        for popen in self._popen.values():
            popen.poll()  # or a dead child stays a zombie
        self._tidy(address, trainers, now)
        if address is None or self._current(address) is not None or now < self._not_before:
            return
        self._start(address, token)

    def ready(self, address: str | None) -> bool:
        """Whether a raylet of this host is part of the head at this address."""
        child = self._current(address) if address else None
        if child is None:
            return False
        if child.mark not in self._ready and _STARTED in self._read_log():
            self._ready.add(child.mark)
            self._failures = 0
        return child.mark in self._ready

    def stop(self) -> None:
        """End every raylet with everything that belongs to it."""
        for child in self._children:
            process = child.find()
            if process is not None:
                with suppress(psutil.Error):
                    process.send_signal(signal.SIGTERM)  # lets it tell the head that it goes
                    process.wait(timeout=_TERM_S)
            self._end(child, keep=set())
        self._keep([])

    def _current(self, address: str) -> _Child | None:
        return next((child for child in self._children if child.address == address), None)

    def _tidy(self, address: str | None, trainers: set[int], now: float) -> None:
        """Drop what died; end the raylets of former heads that hold no trainer."""
        kept = []
        for child in self._children:
            process = child.find()
            if process is not None and address in (None, child.address):
                kept.append(child)
            elif process is None:
                self._failures += 1
                self._not_before = now + _BACKOFF_S[min(self._failures, len(_BACKOFF_S)) - 1]
                tail = self._read_log()[-600:].decode(errors="replace").strip()
                log.warning("the raylet (pid %d) ended; its log ends with: %s", child.pid, tail)
                self._end(child, keep=trainers)
            elif self._holds(child, trainers):
                kept.append(child)
            else:
                log.info("the raylet of the former head %s is ended", child.address)
                self._end(child, keep=set())
        if kept != self._children:
            self._keep(kept)

    def _holds(self, child: _Child, trainers: Iterable[int]) -> bool:
        for pid in trainers:
            with suppress(psutil.NoSuchProcess):
                if processes.is_marked(psutil.Process(pid), MARK, child.mark, session=child.pid):
                    return True
        return False

    def _end(self, child: _Child, keep: set[int]) -> None:
        kept = set(keep)
        for pid in keep:
            with suppress(psutil.Error):
                kept |= {one.pid for one in processes.children(psutil.Process(pid))}
        still = processes.end_all([one for one in child.members() if one.pid not in kept])
        if still:
            log.error("these processes of the raylet can't be ended: %s", [one.pid for one in still])
        if (popen := self._popen.pop(child.pid, None)) is not None:
            popen.poll()

    def _start(self, address: str, token: str) -> None:
        folder = temp_folder(self._home)
        mark = uuid.uuid4().hex
        command = [
            *(*self._ray, "start", "--block"),
            f"--address={address}",
            f"--node-ip-address={node_ip(address)}",
            f"--temp-dir={folder / _RAYS}",
            # Actors ask for no CPU and no GPU: tuneyard places them.
            *("--num-cpus=1", "--num-gpus=0", f"--labels=host={self._host_name}"),
            *("--object-store-memory=80000000", "--include-log-monitor=false", "--disable-usage-stats"),
        ]
        environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token,
            "RAY_TMPDIR": str(folder / _RAYS),
            "RAY_gcs_rpc_server_reconnect_timeout_s": str(HEAD_AWAY_S),
            # Ray starts workers at nice 15, where a trainer gives way to everything else on its host.
            "RAY_worker_niceness": "0",
            MARK: mark,
        }
        with self._log_path.open("ab") as out:
            self._log_from = out.tell()
            popen = subprocess.Popen(
                command,
                env=environment,
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._popen[popen.pid] = popen
        child = _Child(popen.pid, psutil.Process(popen.pid).create_time(), address, mark)
        log.info("the raylet (pid %d) joins the head at %s", child.pid, address)
        self._keep([*self._children, child])

    def _keep(self, children: list[_Child]) -> None:
        self._children = children
        publish(self._state, json.dumps([asdict(child) for child in children]))

    def _read_log(self) -> bytes:
        with suppress(FileNotFoundError), self._log_path.open("rb") as file:
            file.seek(self._log_from)
            return file.read()
        return b""


def node_ip(address: str) -> str:
    """The address at which the head reaches this host: on loopback the head's own, else the route's."""
    ip, _, port = address.rpartition(":")
    if ip.startswith("127.") or ip in ("localhost", "::1", "[::1]"):
        return ip
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((ip, int(port)))  # sends nothing
        return str(probe.getsockname()[0])


def temp_folder(home: Path) -> Path:
    """A folder of ours alone for Ray's: under home, or in the system's where that name is too long.

    Raises PermissionError where another user could have put something there.
    """
    folder = home / "ray"
    if len(str(folder)) > _SOCKET_ROOM:
        name = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:8]
        folder = Path(tempfile.gettempdir()) / f"tuneyard-{os.getuid()}-{name}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        wrong = "is no folder, or a link to one"
    elif found.st_uid != os.getuid():
        wrong = "belongs to another user"
    elif found.st_mode & 0o077:
        wrong = f"is open to other users (mode {found.st_mode & 0o777:o})"
    else:
        return folder
    raise PermissionError(f"{folder} {wrong}: remove it, or set TMPDIR to a short folder of your own")


def _load(path: Path) -> list[_Child]:
    try:
        return [_Child(**entry) for entry in json.loads(path.read_bytes())]
    except (FileNotFoundError, ValueError, TypeError):
        return []
