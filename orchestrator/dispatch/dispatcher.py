"""The server's side of dispatch: keeps the dispatch child alive, hands it starts, collects what became of them."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, Protocol, TypedDict

from orchestrator.dispatch.child import GONE_S, Child, Limits
from orchestrator.dispatch.ray_head import Head

log = logging.getLogger(__name__)

FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 30.0
# Dispatchers in a row that could not connect to a head which runs: then it is the head that hangs.
HEAD_TRIES = 3
EVENTS = 10_000  # kept for a controller that does not take them


class Part(TypedDict):
    """What one host does of an attempt. home, output_root: folders there; assignments: one a rank, in their order; env:
    secrets of the job, for the trainer's environment: nobody logs or stores them.
    """

    host: str
    home: str
    output_root: str
    assignments: list[dict[str, Any]]
    env: NotRequired[dict[str, str]]


@dataclass(frozen=True)
class DispatchState:
    """How a dispatcher is.

    ready: it is connected and answers: what is handed to it starts; answered_s: since its last answer, None: there is
    nobody to answer; trouble: why it is not ready, "" while it starts as it should; replaced: how many ended or were
    ended since it was ready last.
    """

    ready: bool = False
    answered_s: float | None = None
    trouble: str = ""
    replaced: int = 0


class Dispatch(Protocol):
    """What the controller needs of a dispatcher; the tests' fake is one too. No call waits for it."""

    def state(self) -> DispatchState:
        """How it is now."""

    @property
    def address(self) -> str | None:
        """Where raylets join; None while there is no head."""

    @property
    def generation(self) -> int:
        """Rises with each dispatcher that takes over."""

    def start(self, attempt_id: int, parts: list[Part]) -> bool:
        """Hand over an attempt; False while there is nobody to hand it to."""

    def pool(self, warm: dict[str, int]) -> None:
        """How many warm rank actors each host is to keep."""

    def events(self) -> list[dict[str, Any]]:
        """What happened since the last call."""


class NoDispatch:
    """A server without Ray (`serve --no-ray`): nothing starts."""

    address: str | None = None
    generation = 0

    def state(self) -> DispatchState:
        return DispatchState(trouble="this server was started without Ray (--no-ray)")

    def start(self, attempt_id: int, parts: list[Part]) -> bool:
        return False

    def pool(self, warm: dict[str, int]) -> None:
        return None

    def events(self) -> list[dict[str, Any]]:
        return []


class DispatchProcess:
    """Keeps a Ray head and `python -m orchestrator.dispatch.ray_driver`: starts both, and others in place of what ended
    or hangs.

    The head's address is known at once, so that hosts get their raylets ready while it comes up. Its thread outlives
    whatever goes wrong with them: a disk that is full, a process that can't be started or ended.
    """

    def __init__(
        self,
        home: Path,
        scratch: Path,
        node_ip: str,
        port: int,
        token: str,
        limits: Limits | None = None,
        command: Sequence[str] = (sys.executable, "-m", "orchestrator.dispatch.ray_driver"),
        make_head: Callable[[Path, str, int], Head] = Head,
    ) -> None:
        """home: where its log and the head's record go; scratch: a short private folder for Ray's sockets.

        command, make_head: of the dispatcher, which is given the home, and of the head; tests have others.
        """
        self._home, self._command, self._limits = home, [*command, str(home)], limits or Limits()
        self._make_head: Callable[[], Head] = lambda: make_head(home, node_ip, port)
        self._head = self._make_head()
        self.wake: Callable[[], None] = lambda: None  # called when something happened
        self._environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token,
            "RAY_TMPDIR": str(scratch),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DEDUP_LOGS": "0",
        }
        self._lock = threading.Lock()
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS)
        self._child: Child | None = None
        self._warm: dict[str, int] = {}
        self._address: str | None = None
        self._ready: Child | None = None  # that which is connected to the head
        self._generation = 0
        self._trouble = ""
        self._failures = 0  # since one was ready last
        self._unconnected = 0  # of those, that could not connect to the head that there is
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="dispatcher", daemon=True)

    def open(self) -> None:
        self._guarded(self._launch)
        self._thread.start()

    def close(self) -> None:
        """End the child, and the Ray head with it."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(GONE_S + 5)
        if self._child is not None:
            self._child.leave()
        self._head.stop()

    @property
    def address(self) -> str | None:
        return self._address

    @property
    def generation(self) -> int:
        return self._generation

    def state(self) -> DispatchState:
        child, ready = self._child, self._ready
        connected = child is not None and child is ready
        answered_s = None if child is None else child.answered_s
        hung = child.hung() if connected and child else None
        trouble = hung or ("" if connected else self._trouble)
        return DispatchState(connected and not hung, answered_s, trouble, self._failures)

    def start(self, attempt_id: int, parts: list[Part]) -> bool:
        return self._send({"op": "start", "attempt_id": attempt_id, "parts": parts})

    def pool(self, warm: dict[str, int]) -> None:
        if warm != self._warm and self._send({"op": "pool", "warm": warm}):
            self._warm = dict(warm)

    def events(self) -> list[dict[str, Any]]:
        with self._lock:
            taken = list(self._events)
            self._events.clear()
        return taken

    def _send(self, command: dict[str, Any]) -> bool:
        child = self._ready
        return child is not None and child.send(command)

    def _launch(self) -> None:
        """A child for the head that runs, or for a new one. Raises OSError."""
        self._head = self._make_head()
        found = self._head.adopt()
        if found and self._unconnected >= HEAD_TRIES:
            log.error("no dispatcher can connect to the Ray head at %s: it is ended", self._head.address)
            self._head.stop()
            self._head, found = self._make_head(), False
        if not found:
            self._head.start(self._environment)
            self._unconnected = 0
            log.info("a Ray head starts at %s", self._head.address)
        self._address = self._head.address
        log_file = self._home / "dispatch.log"
        self._child = Child(self._command, self._environment, log_file, self._limits, self._hear)
        self._child.listen()

    def _supervise(self) -> None:
        while not self._closing.is_set():
            self._guarded(self._round)

    def _round(self) -> None:
        """The end of one child, and the start of the next."""
        if (child := self._child) is not None:
            try:
                self._look_after(child)
            finally:
                if not self._closing.is_set():
                    self._ready, self._child, self._warm = None, None, {}
            if not self._head.alive():
                self._address = None
        if self._closing.is_set():
            return
        delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        log.warning("%s; a new one starts in %.1fs", self._trouble, delay_s)
        self.wake()
        if not self._closing.wait(delay_s):
            self._launch()

    def _look_after(self, child: Child) -> None:
        """Until it has ended; one that hangs is made to."""
        hung = child.wait(self._closing)
        if self._closing.is_set():
            return
        self._ready = None
        if hung is not None:
            log.error("the dispatcher %s hangs, and is ended: %s", child.process.pid, hung)
        child.end()
        self._unconnected += child.connecting
        ended = f"ended with code {child.process.returncode}" if hung is None else f"was ended: {hung}"
        self._trouble = f"the dispatcher {ended}"

    def _guarded(self, work: Callable[[], None]) -> None:
        """What must not end the thread that would try it again."""
        try:
            work()
        except Exception as error:  # a full disk, no process available: it is tried again, whatever it is
            self._trouble = f"the dispatcher can't be kept: {type(error).__name__}: {error}"
            log.exception("%s", self._trouble)

    def _hear(self, child: Child, event: dict[str, Any]) -> None:
        """An event of a child, on its thread."""
        if child is not self._child:
            return
        if event["event"] == "ready":
            self._generation += 1
            self._ready, self._trouble, self._failures, self._unconnected = child, "", 0, 0
            log.info("connected to the Ray head at %s", self._address)
        elif event["event"] == "head_died":
            log.warning("the Ray head died")
        elif event["event"] != "connecting":
            with self._lock:
                self._events.append(event)
        self.wake()
