"""Memory of a card that no live trainer of ours accounts for: until it is free, the card is not offered."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import psutil

from jobs.messages.reports import GpuInfo, GpuSample
from jobs.units import GiB, gib

log = logging.getLogger(__name__)

# A desktop takes less, and so does the driver's own reserve, which old drivers count as used.
FREE_BYTES = 1 * GiB


class ForeignMemory:
    """Looks at each sample of the CUDA cards of a host.

    A killed trainer's memory is given back by the driver some time after its process is gone, or not at all while the
    card hangs. What is in use with no trainer on the card belongs to somebody else. In a container NVML may number
    processes otherwise than we do; then only the sum in use can tell.
    """

    def __init__(self) -> None:
        self._faults: dict[str, str] = {}
        self._seen: dict[str, int] = {}  # looks in a row at a card that was found so
        self._before: dict[str, set[int]] = {}  # our trainers on each card at the last look
        self._ended: dict[str, set[int]] = {}  # trainers whose memory may still be held

    def look(
        self,
        infos: Sequence[GpuInfo],
        samples: Sequence[GpuSample],
        trainers: Mapping[str, Mapping[int, int]],
    ) -> None:
        """trainers: uuid -> pid -> anything, of those that live, seen before the samples were taken."""
        by_uuid = {sample.uuid: sample for sample in samples}
        for info in infos:
            if info.kind == "cuda" and (sample := by_uuid.get(info.uuid)) is not None:
                self._look(info.uuid, sample, set(trainers.get(info.uuid, ())))

    def fault(self, uuid: str) -> str | None:
        """Why this card can't be offered now, in words."""
        return self._faults.get(uuid)

    def _look(self, uuid: str, sample: GpuSample, ours: set[int]) -> None:
        left = self._before.get(uuid, set()) - ours
        self._before[uuid] = ours
        if sample.memory_used_bytes is None:  # the card itself has a fault
            return
        listed = sample.process_memory or {}
        ended = (self._ended.get(uuid, set()) | left) & listed.keys()
        self._ended[uuid] = ended
        text = _held(sample.memory_used_bytes, listed, ours, ended)
        self._seen[uuid] = self._seen.get(uuid, 0) + 1 if text else 0
        # A trainer may have come up between the two looks, at processes and at the card; not where one has just left.
        if text and self._seen[uuid] == 1 and not (left or ended):
            text = None
        if text is None and uuid in self._faults:
            log.warning("GPU %s: its memory is free again", uuid)
            del self._faults[uuid]
        elif text and uuid not in self._faults:  # not again with every byte that moves
            log.warning("GPU %s: %s", uuid, text)
            self._faults[uuid] = text


def _held(used: int, listed: Mapping[int, int], ours: set[int], ended: set[int]) -> str | None:
    if ended:
        size, pids = sum(listed[pid] for pid in ended), ", ".join(map(str, sorted(ended)))
        return f"{gib(size)} of it is still held by process {pids}, a trainer that has ended"
    others = {pid: size for pid, size in listed.items() if pid not in ours}
    # None of ours is listed: NVML numbers processes in its own way, or they have yet to start CUDA.
    beside = sum(others.values()) if ours & listed.keys() else 0
    size = beside if ours else used
    if size <= FREE_BYTES:
        return None
    whose = ", ".join(_named(pid) for pid in sorted(others, key=lambda pid: -others[pid])[:3])
    by = f" by {whose}" if whose else ""
    return f"{gib(size)} of it is in use{by}, and by no trainer of tuneyard"


def _named(pid: int) -> str:
    try:
        return f"process {pid} ({psutil.Process(pid).name()})"
    except psutil.Error:
        return f"process {pid}"
