"""Notes whatever waits for a disk or a database on an event loop, where it would keep everybody waiting."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from jobs.jobfile import loader
from orchestrator.store import Store

_noted: list[str] | None = None
_CODE = (".py", ".pyc", ".so")  # an import that a library puts off


def _audit(event: str, given: tuple[Any, ...]) -> None:
    if _noted is None or event not in ("open", "os.listdir", "os.scandir"):
        return
    if asyncio._get_running_loop() is not None and not str(given[0]).endswith(_CODE):
        _noted.append(f"{event} {given[0]}")


sys.addaudithook(_audit)


class LoopGuard:
    """Between start() and stop(): what was done on a loop."""

    def __init__(self, store: Store, monkeypatch: Any) -> None:
        self.noted: list[str] = []
        for owner, name in ((store, "read"), (store, "write"), (loader, "_load")):
            monkeypatch.setattr(owner, name, self._told(name, getattr(owner, name)))

    def start(self) -> None:
        global _noted
        _noted = self.noted

    def stop(self) -> None:
        global _noted
        _noted = None

    def _told(self, name: str, method: Any) -> Any:
        def told(*given: Any, **named: Any) -> Any:
            if asyncio._get_running_loop() is not None:
                self.noted.append(name)
            return method(*given, **named)

        return told
