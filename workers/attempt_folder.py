"""The attempt folder: every file name on a host, published whole or not at all.

The host home here is that of one database of the server, see yard_root.

<host home>/attempts/<attempt id>/
    assignment.json  started.json  resume.json  log.txt  progress.jsonl  evaluations.jsonl  outcome.json  stop  data/
    assignment-1.json  started-1.json  outcome-1.json     the same of rank 1 of a gang, and so on
<host home>/jobs/<job id>/checkpoints/                    outlives the attempt: the next one resumes there
<host home>/aside/                                        what is not what the server has by its id
<host home>/jobs/<job id>/logs/attempt-<id>.txt           of ranks on a host without rank 0, once the attempt is over

Of an attempt over several hosts each has such a folder. Ranks are those of this host, numbered from 0 in it
(Assignment.local_rank): the outcome of its first rank is the host's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from jobs.identity import AttemptKey
from jobs.message_base import Message
from jobs.messages.reports import Assignment, Ended, Evaluated, Progress, Resumed, Started
from jobs.state import Outcome
from workers import processes
from workers.durable import locked, publish, publish_once
from workers.hidden_values import shown
from workers.set_aside import set_aside

StopReason = Literal["cancelled", "timeout", "preempted", "stale", "host_stopped"]
# How an attempt ends that is stopped for it.
STOP_OUTCOMES: dict[StopReason, Outcome] = {
    "cancelled": Outcome.CANCELLED,
    "timeout": Outcome.TIMEOUT,
    "preempted": Outcome.PREEMPTED,
    "stale": Outcome.LOST,
    "host_stopped": Outcome.HOST_STOPPED,
}
STOP_REASONS: tuple[StopReason, ...] = tuple(STOP_OUTCOMES)
M = TypeVar("M", bound=Message)
_EPOCH = "epoch"
log = logging.getLogger(__name__)


def yard_root(home: Path | str, yard: str) -> Path:
    """The host home of one database of the server (Joined.yard): in another, its ids are those of others."""
    return Path(home) / yard[:12]


def note_epoch(host_home: Path | str, epoch: int) -> None:
    """Since when the ids of the database are what they are (Joined.epoch): what was handed over before is not begun."""
    publish(Path(host_home) / _EPOCH, str(epoch))


def noted_epoch(host_home: Path | str) -> int:
    """What was noted last; 0 where nothing was."""
    try:
        return int((Path(host_home) / _EPOCH).read_text())
    except (FileNotFoundError, ValueError):
        return 0


def attempts_root(host_home: Path | str) -> Path:
    """The folder that holds one folder an attempt."""
    return Path(host_home) / "attempts"


def jobs_root(host_home: Path | str) -> Path:
    """The folder that holds one folder a job: what outlives its attempts."""
    return Path(host_home) / "jobs"


def checkpoints_root(host_home: Path | str, job_id: int) -> Path:
    """The folder of a job's checkpoints, shared by its attempts on this host."""
    return jobs_root(host_home) / str(job_id) / "checkpoints"


def log_path(host_home: Path | str, job_id: int, attempt_id: int) -> Path:
    """Where a host that is not the lead keeps the log of an attempt's ranks; the lead's goes to the server."""
    return jobs_root(host_home) / str(job_id) / "logs" / f"attempt-{attempt_id}.txt"


def attempt_folders(host_home: Path | str) -> list[AttemptFolder]:
    """Every attempt that left something on this host, by attempt id."""
    root = attempts_root(host_home)
    names = [entry.name for entry in root.iterdir()] if root.is_dir() else []
    return [AttemptFolder(host_home, number) for number in sorted(int(n) for n in names if n.isdigit())]


class AttemptFolder:
    """The files of one attempt. Reading a file that is missing or not yet whole gives None."""

    def __init__(self, host_home: Path | str, attempt_id: int) -> None:
        self.attempt_id = attempt_id
        self.path = attempts_root(host_home) / str(attempt_id)
        self.log_path = self.path / "log.txt"
        self.progress_path = self.path / "progress.jsonl"
        self.evaluations_path = self.path / "evaluations.jsonl"
        self.stop_path = self.path / "stop"
        self.data_path = self.path / "data"  # the rows as tokens, while the attempt trains
        self._stop = str(self.stop_path)
        self._resumed = self.path / "resume.json"

    def __repr__(self) -> str:
        return f"AttemptFolder({self.path})"

    def assignment_path(self, rank: int = 0) -> Path:
        return self.path / _ranked("assignment", rank)

    def started_path(self, rank: int = 0) -> Path:
        return self.path / _ranked("started", rank)

    def outcome_path(self, rank: int = 0) -> Path:
        return self.path / _ranked("outcome", rank)

    def claim(self, assignment: Assignment) -> bool:
        """Take this rank of the attempt. False: another process has it, or the attempt is over."""
        home = self.path.parent.parent
        if assignment.epoch and assignment.epoch < noted_epoch(home):
            log.warning("attempt %d was handed over before the database was restored", self.attempt_id)
            return False
        if not self.set_aside_unless(assignment.key):
            return False
        self.path.mkdir(parents=True, exist_ok=True)
        if self.outcome_path().exists():
            return False
        return publish_once(self.assignment_path(assignment.local_rank), assignment.model_dump_json())

    def inode(self) -> int | None:
        """Tells this folder from another that took its place; None while there is none."""
        try:
            return self.path.stat().st_ino
        except FileNotFoundError:
            return None

    def claimed(self) -> Assignment | None:
        """The assignment of the first rank that claimed it; None while none has."""
        for path in sorted(self.path.glob("assignment*.json")):
            if (assignment := _read(path, Assignment)) is not None:
                return assignment
        return None

    def identity(self) -> AttemptKey | None:
        """The attempt whose folder it is; None while no rank has claimed it."""
        assignment = self.claimed()
        return None if assignment is None else assignment.key

    def set_aside_unless(self, key: AttemptKey, unclaimed: bool = False) -> bool:
        """Move the folder out of the way where it is another attempt's.

        A database that went back to a backup gives ids a second time. key: as the server has it; unclaimed: also where
        no rank has claimed it. False: it is another's, whose trainer still runs.
        """
        with locked(self.path.parent):
            found = self.identity()
            if (found is not None and found.is_of(key)) or (found is None and not unclaimed):
                return True
            return self._set_aside(found)

    def set_aside_if(self, key: AttemptKey) -> bool:
        """Move the folder out of the way where it is this attempt's, which the server does not know."""
        with locked(self.path.parent):
            found = self.identity()
            return found != key or self._set_aside(found)

    def _set_aside(self, found: AttemptKey | None) -> bool:
        if any(processes.find(one.pid, one.create_time) for one in self.processes().values()):
            return False
        whose = (
            f"of job {found.job_id} (uuid {found.uuid[:12] or 'none'})"
            if found
            else "that no trainer claimed"
        )
        text = f"the folder of an attempt {self.attempt_id} {whose} which the database does not know"
        job_id = found.job_id if found else None
        set_aside(self.path.parent.parent, self.path, f"attempt-{self.attempt_id}", text, job_id)
        return True

    def assignment(self, rank: int = 0) -> Assignment | None:
        return _read(self.assignment_path(rank), Assignment)

    def write_started(self, started: Started, rank: int = 0) -> None:
        publish(self.started_path(rank), started.model_dump_json())

    def started(self, rank: int = 0) -> Started | None:
        return _read(self.started_path(rank), Started)

    def write_resumed(self, resumed: Resumed) -> None:
        """What the ranks here go on from; it is on this host."""
        publish(self._resumed, resumed.model_dump_json())

    def resumed(self) -> Resumed | None:
        return _read(self._resumed, Resumed)

    def processes(self) -> dict[int, Started]:
        """Rank -> process, of every rank that has started. All of them are to be ended with the attempt."""
        found: dict[int, Started] = {}
        for path in self.path.glob("started*.json"):
            started = _read(path, Started)
            if started is not None:
                found[_rank_of(path.name)] = started
        return dict(sorted(found.items()))

    def append_progress(self, progress: Progress) -> None:
        _append(self.progress_path, progress)

    def append_evaluation(self, evaluated: Evaluated) -> None:
        _append(self.evaluations_path, evaluated)

    def progress(self, after_step: int = -1) -> list[Progress]:
        """The lines whose step is greater than after_step. A torn last line is left for the next reading."""
        return [line for line in self._progress() if line.step > after_step]

    def _progress(self) -> Iterator[Progress]:
        try:
            text = self.progress_path.read_bytes()
        except FileNotFoundError:
            return
        whole, _, _ = text.rpartition(b"\n")
        for line in whole.splitlines():
            with contextlib.suppress(ValidationError):
                yield Progress.model_validate_json(line)

    def log_bytes(self) -> int:
        """Size of the log; 0 where there is none."""
        try:
            return self.log_path.stat().st_size
        except FileNotFoundError:
            return 0

    def read_log(self, offset: int = 0, limit: int = 1_000_000) -> bytes:
        """Bytes of the log from `offset`; cut so that no UTF-8 character is split. b"" at the end."""
        try:
            with self.log_path.open("rb") as file:
                file.seek(offset)
                return _whole_characters(file.read(limit))
        except FileNotFoundError:
            return b""

    def write_ended(self, ended: Ended, rank: int = 0) -> bool:
        """Record how a rank ended; rank 0's is the outcome. The first one counts: False if there was one."""
        return publish_once(self.outcome_path(rank), shown(ended.model_dump_json()))

    def ended(self, rank: int = 0) -> Ended | None:
        return _read(self.outcome_path(rank), Ended)

    def request_stop(self, reason: StopReason) -> None:
        """Ask the trainer to save a checkpoint and end. A later reason replaces an earlier one."""
        self.path.mkdir(parents=True, exist_ok=True)
        publish(self.stop_path, json.dumps({"reason": reason, "ts": time.time()}))

    def stop_requested(self) -> StopReason | None:
        """Why the attempt is to end, or None. Cheap enough for every step."""
        if not os.path.exists(self._stop):
            return None
        try:
            reason = json.loads(self.stop_path.read_bytes()).get("reason")
        except (OSError, ValueError, AttributeError):
            return "cancelled"
        return reason if reason in STOP_REASONS else "cancelled"

    def is_mine(self, assignment: Assignment) -> bool:
        """Whether the folder is still that of this attempt: another by its id may have taken its place."""
        found = self.identity()
        return found is None or found == assignment.key

    def keep_log(self, job_id: int) -> None:
        """Move the log to where it stays when the folder goes: nobody has it but this host."""
        kept = log_path(self.path.parent.parent, job_id, self.attempt_id)
        with contextlib.suppress(FileNotFoundError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            self.log_path.rename(kept)

    def remove(self) -> None:
        """Delete the folder. It first leaves the place where readers look, so that none sees half of it."""
        gone = self.path.with_name(f".removed-{self.attempt_id}-{uuid.uuid4().hex[:8]}")
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def _append(path: Path, message: Message) -> None:
    """One line in one write, so that a reader sees it whole or torn at the end, never mixed."""
    line = (shown(message.model_dump_json(exclude_none=True)) + "\n").encode()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, line)
    finally:
        os.close(file)


def _read(path: Path, kind: type[M]) -> M | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _ranked(stem: str, rank: int) -> str:
    return f"{stem}.json" if rank == 0 else f"{stem}-{rank}.json"


def _rank_of(name: str) -> int:
    _, dash, rank = name.removesuffix(".json").partition("-")
    return int(rank) if dash else 0


def _whole_characters(data: bytes) -> bytes:
    """Without the beginning of a UTF-8 character at the end."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return data
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-back] if length > back else data
    return data
