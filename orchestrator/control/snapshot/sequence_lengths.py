"""What is known of the lengths of jobs' data, filled into the snapshot."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs.errors import ProfileError
from jobs.jobfile.spec import JobSpec
from jobs.memory import dropped_rows
from jobs.memory.sequence_lengths import Lengths, data_key
from orchestrator import schemas
from orchestrator.scheduler.eta import steps_left
from orchestrator.scheduler.fleet import PendingJob
from orchestrator.store import Store
from orchestrator.store.rows import AttemptRow, JobRow, LengthsRow
from orchestrator.whatif.job_figures import data_shape
from workers.checks.libraries import Needs, needs_of
from workers.data.checks import is_hub_id

RETRY_S = 3600.0  # an error costs no start, so there is no hurry to ask again
# A host that takes longer than a trace may (workers/agent/profile_queue.py) has many before it, or is of a version
# that can't count.
PATIENCE_S = 900.0
# A fault that was found so long before a job came is still its own; an older one may have been corrected.
FRESH_S = 60.0
MOST_WARNED = 20
RECENT_S, MOST_RECENT = 1.0, 10_000
LOOK_EVERY_S = 30.0  # at the files of queued jobs, which may be written again while these wait
# Files of a folder that change what is counted.
_SUFFIXES = (".json", ".jsonl", ".jinja", ".txt", ".model", ".arrow")
_WEIGHTS = (".safetensors", ".bin", ".json")  # and what is checked of the model


class DataLengths:
    """Lengths by job. Holds no truth: what would cost a tick too much to read again, files for LOOK_EVERY_S at most."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys: dict[int, str] = {}
        self._revisions: dict[int, int] = {}
        self._looked_at = 0.0
        self._known: dict[str, Lengths] = {}
        self._notes: dict[str, str] = {}
        self._at_fault: dict[str, LengthsRow] = {}
        self._batches: dict[tuple[str, int, int | str, bool], dict[str, Any]] = {}
        self._needs: dict[str, Needs] = {}

    def filled(self, queue: Sequence[PendingJob], now: float) -> list[PendingJob]:
        """The jobs, with what is known of their data."""
        return [replace(job, **found) for job, found in zip(queue, self.figures(queue, now), strict=True)]

    def figures(self, queue: Sequence[PendingJob], now: float) -> list[dict[str, Any]]:
        """What is known of the data of each job: fields of PendingJob."""
        if now - self._looked_at >= LOOK_EVERY_S:
            self._keys, self._looked_at = {}, now
        look = cache(fingerprint)  # jobs of a sweep share their files
        same = {job.job_id for job in queue if self._revisions.get(job.job_id) == job.revision}
        kept = {job_id: key for job_id, key in self._keys.items() if job_id in same}
        self._revisions = {job.job_id: job.revision for job in queue}
        keys_of = KeysOf(look)
        self._keys = {job.job_id: kept.get(job.job_id) or keys_of(job.spec, job.job_id) for job in queue}
        keys = set(self._keys.values())
        self._known = {key: found for key, found in self._known.items() if key in keys}
        self._batches = {shape: found for shape, found in self._batches.items() if shape[0] in keys}
        specs = {self._keys[job.job_id]: job.spec for job in queue}
        self._needs = {
            key: self._needs[key] if key in self._needs else needs_of(spec) for key, spec in specs.items()
        }
        rows = self._store.lengths(keys - self._known.keys())
        self._notes = {key: row.error for key, row in rows.items() if row.error is not None}
        self._at_fault = {key: row for key, row in rows.items() if row.bad_input}
        for row in rows.values():
            if (found := _lengths(row)) is not None:
                self._known[row.key] = found
        return [self._figures(job, self._keys[job.job_id], rows, now) for job in queue]

    def note(self, job: PendingJob) -> str:
        """Why nobody counted the data of a job that was filled in last; empty where somebody did, or may yet."""
        return not_counted(self._notes[job.data_key]) if job.data_key in self._notes else ""

    def fault(self, job: PendingJob, hosts: int) -> str | None:
        """What is wrong with data, tokenizer or model of a job that was filled in last, so that it can't train.

        hosts: that are open: what is missing on one of several may be there on another.
        """
        row = self._at_fault.get(job.data_key)
        if row is None or not _of(job, row) or (row.missing and hosts > 1):
            return None
        return row.error

    def is_missing(self, job: PendingJob) -> bool:
        """Whether that fault is that the data is not there."""
        row = self._at_fault.get(job.data_key)
        return row is not None and row.missing

    def lengths(self, job: PendingJob) -> Lengths | None:
        """Of a job that was filled in last; None where nobody counted."""
        return self._known.get(job.data_key)

    def want(self, key: str, spec: JobSpec, host_id: int, now: float) -> None:
        """Ask a host to count."""
        said = spec.model_dump(mode="json", exclude_unset=True)
        self._store.want_lengths(key, said, host_id, now, RETRY_S)

    def _batches_of(self, key: str, known: Lengths, spec: JobSpec) -> dict[str, Any]:
        """What Lengths says of its micro-batches, worked out once for all jobs of the same data and batch."""
        shape = (key, spec.batch_per_gpu, spec.memory.micro_batch, spec.training.packing)
        found = self._batches.get(shape)
        if found is None:
            found = {
                "means": known.batch_lengths(spec),
                "fullest": known.fullest_batches(spec),
                "sample": known.sample(),
            }
            self._batches[shape] = found
        return found

    def _figures(self, job: PendingJob, key: str, rows: dict[str, LengthsRow], now: float) -> dict[str, Any]:
        known, training = self._known.get(key), job.spec.training
        found: dict[str, Any] = {"needs": self._needs[key], "data_key": key, "counted": "yes"}
        if known is not None:
            found["length"] = known.longest_batch_tokens(training.sequence_length, training.packing)
            found |= self._batches_of(key, known, job.spec)
            found["equal_rows"] = known.equal_rows
            found["steps_left"] = steps_left(known.steps(job.spec), job.steps_done)
            return found
        row = rows.get(key)
        if row is None or (row.pending and row.host_id is None):
            found["counted"] = "no"
        elif row.pending:
            found["counted"] = "under way" if now - row.requested_at < PATIENCE_S else "yes"
        else:
            stale = row.error is not None and now - (row.ended_at or now) >= RETRY_S
            stale = stale or (row.bad_input and not _of(job, row))
            found["counted"] = "no" if stale else "yes"
        return found


def _of(job: PendingJob, row: LengthsRow) -> bool:
    """Whether what was found tells of this job too: no one can have corrected it before the job came."""
    came = job.submitted_at if job.waiting_since is None else job.waiting_since
    return (row.ended_at or 0.0) >= came - FRESH_S


def not_counted(why: str) -> str:
    """What a plan says of data that nobody could count."""
    return f"the data was not counted ({why}): planned for the whole training.sequence_length"


def data_of(store: Store, job: JobRow, attempts: Sequence[AttemptRow]) -> schemas.PlanData | None:
    """Of a job's data, as its last attempt was planned for them; None where nobody counted. attempts: oldest first."""
    try:
        spec = JobSpec.model_validate(job.spec)
    except ValidationError:  # stored by another version
        return None
    last = attempts[-1] if attempts else None
    key = (last.basis or {}).get("data_key") if last else key_of(spec, job.id)
    row = store.lengths([key]).get(key) if key else None
    found = _lengths(row) if row else None
    return (
        data_shape(found, spec, last.rung["micro_batch"] if last else spec.batch_per_gpu) if found else None
    )


class RecentLengths:
    """Lengths, and the files that they are of, as they were looked at RECENT_S ago at most: a burst of submissions must
    not do that a thousand times.

    Any number of threads may call it.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self._found: dict[str, LengthsRow | None] = {}
        self._keys_of = KeysOf(cache(fingerprint))
        self._since = 0.0

    def key(self, spec: JobSpec, job_id: int) -> str:
        """key_of() of a job."""
        self._refresh()
        return self._keys_of(spec, job_id)

    def of(self, keys: Collection[str]) -> dict[str, LengthsRow]:
        """Those that were ever asked for, by key."""
        self._refresh()
        known = self._found
        if missing := [key for key in keys if key not in known]:
            rows = self._store.lengths(missing)
            known.update({key: rows.get(key) for key in missing})
        return {key: row for key in keys if (row := known[key]) is not None}

    def forget(self) -> None:
        """There is something new."""
        self._found = {}

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._since > RECENT_S or max(len(self._found), len(self._keys_of)) > MOST_RECENT:
            self._found, self._keys_of, self._since = {}, KeysOf(cache(fingerprint)), now


def warnings_of(lengths: RecentLengths, jobs: Sequence[tuple[int, JobSpec]]) -> list[str]:
    """What is known of the data of jobs, by id, that a user should know of; of the first MOST_WARNED kinds of them."""
    kinds: dict[tuple[object, ...], tuple[int, JobSpec]] = {}
    for job_id, spec in jobs:
        model, training = spec.model, spec.training
        kind = (spec.data.path, model.path, model.tokenizer, training.sequence_length, training.packing)
        if len(kinds) < MOST_WARNED:
            kinds.setdefault(kind, (job_id, spec))
    keys = {lengths.key(spec, job_id): spec for job_id, spec in kinds.values()}
    rows = lengths.of(keys)
    found = [
        text
        for key, spec in keys.items()
        if key in rows and (counted := _lengths(rows[key])) is not None
        for text in dropped_rows.warnings(counted, spec)
    ]
    return list(dict.fromkeys(found))


class KeysOf:
    """key_of() of many jobs, worked out once for those that share data and model. look: see there."""

    def __init__(self, look: Callable[..., Any]) -> None:
        self._look = look
        self._known: dict[tuple[object, ...], str] = {}

    def __call__(self, spec: JobSpec, job_id: int) -> str:
        training, model = spec.training, spec.model.model_dump_json()
        kind = (spec.data.model_dump_json(), model, training.sequence_length, training.packing, spec.trainer)
        if (key := self._known.get(kind)) is not None:
            return key
        key, path = key_of(spec, job_id, self._look), spec.data.path
        if self._look(path) is not None or is_hub_id(path):  # else the key is of this job alone
            self._known[kind] = key
        return key

    def __len__(self) -> int:
        return len(self._known)


def key_of(spec: JobSpec, job_id: int, look: Callable[..., Any] | None = None) -> str:
    """The key of a job's lengths. Files that this machine can't see may change unseen: then each job has its own.

    look: fingerprint(), or what remembers it for a while.
    """
    look = look or fingerprint
    data = look(spec.data.path)
    if data is None and not is_hub_id(spec.data.path):
        data = job_id
    model = spec.model
    weights = look(model.path, _WEIGHTS) if model.path else None
    return data_key(spec, data, look(model.tokenizer or model.path or ""), weights)


def fingerprint(path: str, suffixes: tuple[str, ...] = _SUFFIXES) -> Any:
    """Size and time of change of a file, or of the files of a folder; None where it is not to be seen from here."""
    try:
        if not os.path.isdir(path):
            stat = os.stat(path)
            return [stat.st_size, stat.st_mtime_ns]
        return [
            [str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns]
            for file in sorted(Path(path).rglob("*"))
            if file.suffix in suffixes and file.is_file()
        ]
    except (OSError, ValueError):
        return None


def _lengths(row: LengthsRow) -> Lengths | None:
    """None too where a host of another version counted."""
    try:
        return Lengths.from_dict(row.lengths) if row.lengths is not None else None
    except ProfileError:
        return None
