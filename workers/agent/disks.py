"""The room on a host's disks. A disk that hangs, as one over a network may, must not hold up the agent."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from jobs.messages.reports import Disk

LOOK_EVERY_S = 10.0


class Disks:
    """What was seen last, looked at again in a thread. places: folders by what they hold, which need not exist yet."""

    def __init__(self, places: Mapping[str, Path], every_s: float = LOOK_EVERY_S) -> None:
        self._places, self._every_s = places, every_s
        self._seen: list[Disk] = []
        self._looked_at = -every_s
        self._looking: threading.Thread | None = None

    def latest(self) -> list[Disk]:
        """As they were some seconds ago; nothing before the first look has ended."""
        busy = self._looking is not None and self._looking.is_alive()
        if not busy and time.monotonic() - self._looked_at >= self._every_s:
            self._looked_at = time.monotonic()
            self._looking = threading.Thread(target=self._look, name="disks", daemon=True)
            self._looking.start()
        return self._seen

    def _look(self) -> None:
        """One entry a disk. Of a folder that can't be looked at nothing is said."""
        found: dict[int, Disk] = {}
        for holds, folder in self._places.items():
            try:
                place = next(one for one in (folder, *folder.parents) if one.exists())
                device, size = place.stat().st_dev, os.statvfs(place)
            except OSError:
                continue
            if device in found:
                both = f"{found[device].holds} and {holds}"
                found[device] = found[device].model_copy(update={"holds": both})
                continue
            found[device] = Disk(
                holds=holds,
                path=str(place),
                free_bytes=size.f_bavail * size.f_frsize,  # what is kept for root is not ours
                total_bytes=size.f_blocks * size.f_frsize,
            )
        self._seen = [*found.values()]
