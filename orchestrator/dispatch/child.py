"""The server's side of one dispatch process: what it says, what it is told, and when it counts as hung.

Nothing here makes the caller wait for the process: commands go through a bounded queue that a thread empties into the
pipe, and another thread reads what comes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.dispatch.heartbeat import Awake

log = logging.getLogger(__name__)

LOOK_S = 0.5
GONE_S = (
    10.0  # to end in, once it was killed: a process that waits for a disk may take longer, and is left to it
)


@dataclass(frozen=True)
class Limits:
    """Seconds without a word: first_s, until the first, for Ray is imported before it; silent_s, later.

    leave_s: what it has to end by itself; waiting: commands that are kept for a process that takes none; more are
    refused.
    """

    first_s: float = 60.0
    silent_s: float = 15.0
    leave_s: float = 15.0
    waiting: int = 1000


class Child:
    """One process, from its start to its end.

    hear: called with each event but its heartbeat, on a thread of its own; connecting: it has begun to, and is
    not done.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log_file: Path,
        limits: Limits,
        hear: Callable[[Child, dict[str, Any]], None],
    ) -> None:
        """Raises OSError when it can't be started. Nothing is heard of it before listen()."""
        self.connecting = False
        self.limits, self._hear = limits, hear
        self._awake = Awake()
        self._heard_s = self._awake.look()
        self._spoke = False
        self._stuck: str | None = None
        self._outbox: queue.Queue[dict[str, Any] | None] = queue.Queue(limits.waiting)
        with log_file.open("ab") as errors:
            self.process = subprocess.Popen(
                [*command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                errors="replace",
                env=environment,
            )
        self._threads = [
            threading.Thread(target=target, name=f"dispatcher {target.__name__}", daemon=True)
            for target in (self._read, self._write)
        ]

    def listen(self) -> None:
        for thread in self._threads:
            thread.start()

    def send(self, command: dict[str, Any]) -> bool:
        """Keep a command for it; False where too many wait already, or it has ended. Returns at once."""
        if self.process.poll() is not None:
            return False
        try:
            self._outbox.put_nowait(command)
        except queue.Full:
            return False
        return True

    @property
    def answered_s(self) -> float:
        """Seconds since its last sign of life, in which this process was awake to hear one."""
        return self._awake.look() - self._heard_s

    def hung(self) -> str | None:
        """Why it counts as hung, None while it does not."""
        silent_s, limit_s = self.answered_s, self.limits.silent_s if self._spoke else self.limits.first_s
        if self._stuck is not None:
            return self._stuck
        return f"it has said nothing for {silent_s:.0f} s" if silent_s > limit_s else None

    def wait(self, closing: threading.Event) -> str | None:
        """Until it has ended by itself, or is to be ended: why, None where it has, or where the server closes."""
        while self.process.poll() is None and not closing.is_set():
            if (why := self.hung()) is not None:
                return why
            self._ended(LOOK_S)
        return None

    def leave(self) -> None:
        """Let it end by itself, or make it."""
        self.send({"op": "shutdown"})
        self._ended(self.limits.leave_s)
        self.end()

    def end(self) -> None:
        """End it by its process id, whatever it is doing, and let go of its pipes."""
        if self.process.poll() is None:
            self.process.kill()
            if not self._ended(GONE_S):
                log.error("the dispatcher %s was killed, and is still there", self.process.pid)
        with contextlib.suppress(queue.Full):
            self._outbox.put_nowait(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(1)

    def _ended(self, within_s: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(within_s)
        return self.process.poll() is not None

    def _write(self) -> None:
        """Commands into the pipe, which may be full: only this thread waits for it."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError), self.process.stdin as pipe:
            while (command := self._outbox.get()) is not None:
                pipe.write(json.dumps(command) + "\n")
                pipe.flush()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(OSError, ValueError), self.process.stdout as pipe:
            for line in pipe:
                try:
                    self._heard(json.loads(line))
                except Exception:  # of one line: the next may be an event that somebody waits for
                    log.warning("the dispatcher printed %r", line[:200], exc_info=True)

    def _heard(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "stuck":
            self._stuck = f"it is {event['doing']} for {event['for_s']:.0f} s"
            return
        self._heard_s, self._spoke = self._awake.look(), True
        if kind == "beat":
            self._stuck = None
            return
        self.connecting = kind == "connecting" or (self.connecting and kind != "ready")
        self._hear(self, event)
