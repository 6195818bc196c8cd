"""Fakes at the seams that the design names: small, shared, and honest about what they were asked."""

from __future__ import annotations

from typing import Any

from orchestrator.dispatch.dispatcher import DispatchState, Part


class FakeDispatch:
    """A dispatcher that starts nothing and remembers what it was handed. Tests put events in `said`."""

    def __init__(self) -> None:
        self.address: str | None = "127.0.0.2:1"
        self.generation = 1
        self.started: list[dict[str, Any]] = []
        self.warm: dict[str, int] = {}
        self.said: list[dict[str, Any]] = []
        self.how = DispatchState(ready=True, answered_s=0.1)

    def state(self) -> DispatchState:
        return self.how

    def start(self, attempt_id: int, parts: list[Part]) -> bool:
        lead = parts[0]
        assignments = [assignment for part in parts for assignment in part["assignments"]]
        self.started.append(
            {
                "attempt_id": attempt_id,
                "host": lead["host"],
                "home": lead["home"],
                "assignments": assignments,
                "parts": parts,
            }
        )
        return True

    def pool(self, warm: dict[str, int]) -> None:
        self.warm = dict(warm)

    def events(self) -> list[dict[str, Any]]:
        taken, self.said = self.said, []
        return taken
