"""News of open attempts: what the server lacks of each folder's log, progress and outcome."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from jobs.identity import AttemptKey
from jobs.messages.reports import AttemptOffsets, AttemptReport, Ended, Evaluated, Progress
from jobs.state import Outcome
from jobs.units import KiB
from workers.attempt_folder import AttemptFolder, checkpoints_root
from workers.checkpoints.folders import listed, look_at

LOG_BYTES = 256 * KiB  # of one attempt, a report
PROGRESS_LINES = 500  # of one attempt, a report
_READ_BYTES = 256 * KiB


def _one_for_one(error: UnicodeError) -> tuple[str, int]:
    """A question mark for every byte that is no UTF-8, so that offsets in bytes stay right."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "?" * (error.end - error.start), error.end


codecs.register_error("tuneyard-one-for-one", _one_for_one)


L = TypeVar("L", Progress, Evaluated)


class Tail(Generic[L]):
    """The lines of a progress.jsonl or evaluations.jsonl that the server has not stored, read once from disk."""

    def __init__(self, path: Path, kind: type[L]) -> None:
        self._path = path
        self._kind: type[L] = kind
        self._restart()

    def _restart(self) -> None:
        self._offset = 0  # bytes read
        self._pending: list[L] = []
        self._stored = -2  # the last step taken off because the server has it
        self.at_end = False

    def take(self, step: int) -> list[L]:
        """Lines after `step`, the last that the server has; at most PROGRESS_LINES, oldest first."""
        if step < self._stored:  # the server went back, to a backup for instance
            self._restart()
        self._drop(step)
        while len(self._pending) <= PROGRESS_LINES and self._read():
            self._drop(step)
        self.at_end = len(self._pending) <= PROGRESS_LINES
        return self._pending[:PROGRESS_LINES]

    def _drop(self, step: int) -> None:
        self._stored = step
        self._pending = [line for line in self._pending if line.step > step]

    def _read(self) -> bool:
        """Read on; a torn last line is left for the next time. False at the end."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                whole, newline, _ = file.read(_READ_BYTES).rpartition(b"\n")
        except FileNotFoundError:
            return False
        self._offset += len(whole) + len(newline)
        for line in whole.splitlines():
            try:
                self._pending.append(self._kind.model_validate_json(line))
            except ValidationError:  # a foreign or damaged line is no reason to stop telling
                continue
        return bool(newline)


@dataclass
class News:
    """What one report tells of attempts. more: not all that is there went into it."""

    attempts: list[AttemptReport] = field(default_factory=list)
    more: bool = False


class Shipper:
    """Reads news from the folders, from where the server stands."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._tails: dict[AttemptKey, tuple[Tail[Progress], Tail[Evaluated]]] = {}

    def news(self, attempts: list[AttemptOffsets], over: set[int], now: float) -> News:
        """News of the attempts that the server holds open.

        over: those with an outcome and no process left. Of others the outcome is held back: a server that has
        it gives their cards away.
        """
        keys = {one.key for one in attempts}
        self._tails = {key: tail for key, tail in self._tails.items() if key in keys}
        news = News()
        for one in attempts:
            report, whole = self._read(one, one.attempt_id in over, now)
            news.attempts.append(report)
            news.more = news.more or not whole
        return news

    def _read(self, known: AttemptOffsets, over: bool, now: float) -> tuple[AttemptReport, bool]:
        folder = AttemptFolder(self._home, known.attempt_id)
        if not folder.path.is_dir():
            return _gone(known, folder, now), True
        assignment = folder.claimed()
        if assignment is not None and not assignment.key.is_of(known.key):  # until it is set aside
            return _nothing(known), True
        # The outcome is read first: what the trainer wrote before it is then seen below.
        ended = folder.ended() if over else None
        if not known.lead:  # the log of these ranks stays here: their failure's message goes with their end
            return _nothing(known).model_copy(update={"ended": ended}), True
        if known.key not in self._tails:
            lines = Tail(folder.progress_path, Progress), Tail(folder.evaluations_path, Evaluated)
            self._tails[known.key] = lines
        tail, evaluations = self._tails[known.key]
        progress, evaluated = tail.take(known.step), evaluations.take(known.evaluated)
        data = folder.read_log(known.log_offset, LOG_BYTES)
        whole = tail.at_end and evaluations.at_end and len(data) < LOG_BYTES - 3
        root = checkpoints_root(self._home, known.job_id)
        made = [look_at(path, assignment.mine) for path, _ in reversed(listed(root))] if assignment else []
        report = AttemptReport(
            attempt_id=known.attempt_id,
            number=known.number,
            uuid=known.uuid,
            started=folder.started(),
            resumed=folder.resumed(),
            checkpoints=[found for found in made if found is not None] if assignment else None,
            progress=progress,
            evaluations=evaluated,
            # PostgreSQL's text can't hold a NUL.
            log=data.decode("utf-8", errors="tuneyard-one-for-one").replace("\x00", "?"),
            log_offset=known.log_offset,
            # The outcome goes last: once the server has it, it asks for no longer are.
            ended=ended if whole else None,
        )
        return report, whole


def _nothing(known: AttemptOffsets) -> AttemptReport:
    return AttemptReport(
        attempt_id=known.attempt_id, number=known.number, uuid=known.uuid, log_offset=known.log_offset
    )


def _gone(known: AttemptOffsets, folder: AttemptFolder, now: float) -> AttemptReport:
    """An attempt without a folder has not started, unless the server already had news of it."""
    if not known.lead or (not known.log_offset and not known.step):
        return _nothing(known)
    ended = Ended(
        ts=now,
        outcome=Outcome.LOST,
        message=f"its folder {folder.path} is gone from the host",
        steps=known.step,
    )
    return _nothing(known).model_copy(update={"ended": ended})
