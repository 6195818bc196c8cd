"""The server's side of dispatch: keeps the dispatch child alive, hands it starts, collects what became of them."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypedDict

from orchestrator.head import Head

log = logging.getLogger(__name__)


class Part(TypedDict):
    """What one host does of an attempt. home, output_root: folders there; assignments: one a rank, in their order."""

    host: str
    home: str
    output_root: str
    assignments: list[dict[str, Any]]


class Dispatch(Protocol):
    """What the controller needs of a dispatcher; the tests' fake is one too."""

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

    def start(self, attempt_id: int, parts: list[Part]) -> bool:
        return False

    def pool(self, warm: dict[str, int]) -> None:
        return None

    def events(self) -> list[dict[str, Any]]:
        return []


class DispatchProcess:
    """Keeps a Ray head and `python -m orchestrator.dispatch`: starts both, restarts what ended with a growing delay.

    The head's address is known at once, so that hosts get their raylets ready while it comes up.
    """

    def __init__(self, home: Path, scratch: Path, node_ip: str, port: int, token: str) -> None:
        """home: where its log and the head's record go; scratch: a short private folder for Ray's sockets."""
        self._home = home
        self._listen = (node_ip, port)
        self._head = Head(home, node_ip, port)
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
        self._events: list[dict[str, Any]] = []
        self._child: subprocess.Popen[str] | None = None
        self._warm: dict[str, int] = {}
        self._address: str | None = None
        self._ready = False  # the child is connected to the head
        self._generation = 0
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        self._child = child = self._launch()
        self._thread = threading.Thread(target=self._supervise, args=(child,), name="dispatcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the child, and the Ray head with it."""
        self._closing.set()
        child = self._child
        self._write(child, {"op": "shutdown"})
        if child is not None:
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()
        if self._thread is not None:
            self._thread.join(5)
        self._head.stop()

    @property
    def address(self) -> str | None:
        return self._address

    @property
    def generation(self) -> int:
        return self._generation

    def start(self, attempt_id: int, parts: list[Part]) -> bool:
        return self._send({"op": "start", "attempt_id": attempt_id, "parts": parts})

    def pool(self, warm: dict[str, int]) -> None:
        if warm != self._warm and self._send({"op": "pool", "warm": warm}):
            self._warm = dict(warm)

    def events(self) -> list[dict[str, Any]]:
        with self._lock:
            taken, self._events = self._events, []
        return taken

    def _send(self, command: dict[str, Any]) -> bool:
        return self._ready and self._write(self._child, command)

    def _write(self, child: subprocess.Popen[str] | None, command: dict[str, Any]) -> bool:
        if child is None or child.stdin is None:
            return False
        try:
            with self._lock:
                child.stdin.write(json.dumps(command) + "\n")
                child.stdin.flush()
        except (BrokenPipeError, ValueError):
            return False
        return True

    def _launch(self) -> subprocess.Popen[str]:
        """A child for the head that runs, or for a new one."""
        self._head = Head(self._home, *self._listen)
        if not self._head.adopt():
            self._head.start(self._environment)
            log.info("a Ray head starts at %s", self._head.address)
        self._address = self._head.address
        with (self._home / "dispatch.log").open("ab") as errors:
            return subprocess.Popen(
                [sys.executable, "-m", "orchestrator.dispatch", str(self._home)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=self._environment,
            )

    def _supervise(self, child: subprocess.Popen[str]) -> None:
        delay = 0.5
        while True:
            was_ready = self._read(child)
            code = child.wait()
            self._ready, self._warm = False, {}
            if not self._head.alive():
                self._address = None
            if self._closing.is_set():
                return
            delay = 0.5 if was_ready else min(30.0, delay * 2)
            log.warning("the dispatcher ended with code %s; a new one starts in %.1fs", code, delay)
            self.wake()
            if self._closing.wait(delay):
                return
            self._child = child = self._launch()

    def _read(self, child: subprocess.Popen[str]) -> bool:
        """Events until the child's stdout ends. Returns whether it ever became ready."""
        assert child.stdout is not None
        ready = False
        for line in child.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                log.warning("the dispatcher printed %r", line[:200])
                continue
            if event["event"] == "ready":
                ready = True
                self._generation += 1
                self._ready = True
                log.info("connected to the Ray head at %s", self._address)
            elif event["event"] == "head_died":
                log.warning("the Ray head died")
            else:
                with self._lock:
                    self._events.append(event)
            self.wake()
        return ready
