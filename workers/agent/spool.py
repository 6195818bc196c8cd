"""Samples that the server has not acknowledged: in memory, and on disk while it is away."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from jobs.messages.reports import GpuSample
from jobs.units import MiB, gib

log = logging.getLogger(__name__)

BATCH = 2000  # samples a report, and a segment: about 0.7 MB as JSON
LIMIT_BYTES = 256 * MiB  # 8 cards: about a day


class Spool:
    """A queue of samples, oldest first. A batch stays until confirmed: a crash sends it twice, loses none.

    What a crash of the agent itself can cost is the samples since the last report: those are in memory.
    """

    def __init__(self, folder: Path, limit_bytes: int = LIMIT_BYTES, batch: int = BATCH) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._batch = batch
        self._memory: list[GpuSample] = []
        self._segments = {path: path.stat().st_size for path in sorted(folder.glob("*.jsonl"))}
        self._next = 1 + max((int(path.stem) for path in self._segments if path.stem.isdigit()), default=0)
        self._open: Path | None = None  # the segment that grows
        self._open_count = 0
        self._out: Path | int = 0  # what the last batch was: a segment, or so many of memory

    def put(self, samples: Iterable[GpuSample]) -> None:
        self._memory.extend(samples)

    def batch(self) -> list[GpuSample]:
        """The oldest samples, at most one segment of them. They stay until confirm()."""
        while self._segments:
            path = next(iter(self._segments))
            samples = _read(path)
            if samples:
                self._out = path
                return samples
            self._drop(path)
        self._out = min(self._batch, len(self._memory))
        return self._memory[: self._out]

    def confirm(self) -> None:
        """The server has the last batch."""
        if isinstance(self._out, Path):
            self._drop(self._out)
        else:
            del self._memory[: self._out]
        self._out = 0

    def spill(self) -> None:
        """Put what is in memory on disk: the last batch was not confirmed. Over the limit the oldest goes."""
        self._out = 0
        while self._memory:
            if self._open is None or self._open_count >= self._batch:
                self._open, self._open_count = self._folder / f"{self._next:012d}.jsonl", 0
                self._next += 1
            part = self._memory[: self._batch - self._open_count]
            lines = "".join(sample.model_dump_json(exclude_none=True) + "\n" for sample in part)
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                with self._open.open("a", encoding="utf-8") as file:
                    file.write(lines)
            except OSError as error:
                self._give_way(error)
                return
            self._segments[self._open] = self._segments.get(self._open, 0) + len(lines)
            self._open_count += len(part)
            del self._memory[: len(part)]
        while sum(self._segments.values()) > self._limit_bytes and len(self._segments) > 1:
            oldest = next(iter(self._segments))
            log.warning("the telemetry spool is over %s: %s is dropped", gib(self._limit_bytes), oldest.name)
            self._drop(oldest)

    def backlog(self) -> bool:
        """Whether a whole batch or more waits."""
        return bool(self._segments) or len(self._memory) > self._batch

    def _give_way(self, error: OSError) -> None:
        """The disk takes no more: keep the newest in memory, and no more than some batches of them."""
        surplus = len(self._memory) - 10 * self._batch
        if surplus > 0:
            log.warning("the telemetry spool can't be written (%s): %d samples are dropped", error, surplus)
            del self._memory[:surplus]

    def _drop(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._segments.pop(path, None)
        if path == self._open:
            self._open = None


def _read(path: Path) -> list[GpuSample]:
    """A segment's samples; a line torn by a crash is left out."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        log.warning("%s can't be read: %s", path, error)
        return []
    samples = []
    for line in lines:
        try:
            samples.append(GpuSample.model_validate_json(line))
        except ValidationError:
            log.warning("%s holds a line that is no sample; it is left out", path.name)
    return samples
