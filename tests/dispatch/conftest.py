"""A dispatcher and a head that are processes, without Ray."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.dispatch.child import Limits
from orchestrator.dispatch.dispatcher import DispatchProcess
from orchestrator.dispatch.ray_head import Head

PATIENCE_S = 120.0  # of a test, for what takes a second on an idle machine


class PlainHead(Head):
    """A process that sleeps."""

    def _command(self) -> list[str]:
        return [sys.executable, "-c", "import time; time.sleep(600)"]


def until(met: Callable[[], object], what: str) -> None:
    """Wait for an event. Raises AssertionError when it does not come."""
    deadline = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Under:
    """A dispatcher under test, with what its processes are to do."""

    def __init__(self, home: Path) -> None:
        self.home, self.opened = home, list[DispatchProcess]()

    def open(self, *modes: str, waiting: int = 1000, silent_s: float = 3.0) -> DispatchProcess:
        made = self.made(*modes, waiting=waiting, silent_s=silent_s)
        made.open()
        return made

    def made(self, *modes: str, waiting: int = 1000, silent_s: float = 3.0) -> DispatchProcess:
        """One that is not open yet."""
        (self.home / "modes").write_text("\n".join(modes))
        made = DispatchProcess(
            self.home,
            self.home,
            "127.0.0.1",
            0,
            "token",
            Limits(first_s=60.0, silent_s=silent_s, leave_s=1.0, waiting=waiting),
            (sys.executable, "-m", "tests.dispatch.without_ray"),
            PlainHead,
        )
        self.opened.append(made)
        return made

    @staticmethod
    def pid(made: DispatchProcess) -> int:
        assert made._child is not None
        return made._child.process.pid

    def stop(self, made: DispatchProcess) -> int:
        """SIGSTOP it: it is there, and does nothing."""
        pid = self.pid(made)
        os.kill(pid, signal.SIGSTOP)
        return pid

    def close(self) -> None:
        for one in self.opened:
            one.close()


@pytest.fixture
def under(tmp_path: Path) -> Iterator[Under]:
    made = Under(tmp_path)
    yield made
    made.close()
