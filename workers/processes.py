"""Processes on this machine: found for certain, ended for good."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterable

import psutil

# psutil derives a process's start from the kernel's boot time, which is kept in whole seconds and moves with
# the clock: readings of one process by two others differ by a second or so. A pid reused so soon is missed.
_SAME_START_S = 2.0
_KILLED = re.compile(rb"Killed process (\d+)")


def find(pid: int, create_time: float) -> psutil.Process | None:
    """The process with this pid and start (Unix seconds, psutil's); None when it is gone or a zombie."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - create_time) <= _SAME_START_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def end(process: psutil.Process) -> None:
    """SIGKILL the process, its descendants, and the process group that it leads. Does not wait."""
    doomed = [*children(process), process]
    with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
        if process.is_running() and os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
    for one in doomed:
        with contextlib.suppress(psutil.Error):
            one.kill()


def children(process: psutil.Process) -> list[psutil.Process]:
    """All descendants that run now."""
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def marked(name: str, value: str, session: int | None = None) -> list[psutil.Process]:
    """Processes that were born with `name=value` in their environment, or belong to this session.

    Children in sessions of their own inherit the environment; those that overwrote theirs are in the session.
    """
    own = os.getpid()
    return [p for p in psutil.process_iter() if p.pid != own and is_marked(p, name, value, session)]


def is_marked(process: psutil.Process, name: str, value: str, session: int | None = None) -> bool:
    try:
        if session is not None and os.getsid(process.pid) == session:
            return process.status() != psutil.STATUS_ZOMBIE
        return process.environ().get(name) == value
    except (psutil.Error, OSError):
        return False


def end_all(processes: Iterable[psutil.Process], timeout_s: float = 5.0) -> list[psutil.Process]:
    """SIGKILL and wait. Returns those that are still there."""
    doomed = list(processes)
    for process in doomed:
        end(process)
    _, alive = psutil.wait_procs(doomed, timeout=timeout_s)
    return [process for process in alive if _runs(process)]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def oom_kills() -> int | None:
    """How many processes the kernel has ended for want of memory since boot; None where it does not tell."""
    try:
        with open("/proc/vmstat", encoding="ascii") as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    except OSError:
        return None
    return None


def killed_by_kernel(pid: int) -> bool | None:
    """Whether the kernel's log says that it ended this pid for want of memory; None if unreadable."""
    try:
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        while True:
            try:
                record = os.read(log, 8192)  # one record a read
            except BrokenPipeError:  # the record was overwritten meanwhile; the next read goes on
                continue
            except BlockingIOError:
                return False
            match = _KILLED.search(record)
            if match and int(match[1]) == pid:
                return True
            if not record:
                return False
    except OSError:
        return None
    finally:
        os.close(log)
