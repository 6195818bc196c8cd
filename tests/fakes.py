"""Fakes at the seams that the design names: small, shared, and honest about what they were asked."""

from __future__ import annotations

from typing import Any


class FakeDispatch:
    """A dispatcher that starts nothing and remembers what it was handed. Tests put events in `said`."""

    def __init__(self) -> None:
        self.address: str | None = "127.0.0.2:1"
        self.generation = 1
        self.started: list[dict[str, Any]] = []
        self.warm: dict[str, int] = {}
        self.said: list[dict[str, Any]] = []

    def start(
        self, attempt_id: int, host: str, home: str, output_root: str, assignments: list[dict[str, Any]]
    ) -> bool:
        self.started.append(
            {"attempt_id": attempt_id, "host": host, "home": home, "assignments": assignments}
        )
        return True

    def pool(self, warm: dict[str, int]) -> None:
        self.warm = dict(warm)

    def events(self) -> list[dict[str, Any]]:
        taken, self.said = self.said, []
        return taken
