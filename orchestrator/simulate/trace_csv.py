"""A trace of jobs in a CSV file, gzipped or not -> jobs, every fault with its line and column."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from jobs.cards import find_card
from jobs.errors import Fault, SpecError, UsageError
from jobs.jobfile.fields import read_priority
from orchestrator.scheduler.fleet import DEFAULT_PROJECT
from orchestrator.simulate.trace import DEFAULT_PRIORITY, TraceJob

MAX_FAULTS = 20  # of one file; the rest is mostly the same again
MAX_JOBS = 1_000_000
GZIP = b"\x1f\x8b"
ON_CARD = "seconds_on_"  # seconds_on_h100: of the whole job on such a card, empty where it does not fit
SUBSETS = "trace"  # the column that tells several traces in one file apart


@dataclass(frozen=True)
class Format:
    """A header that is known. columns: its column -> the field of a job, "" for one that says nothing to us;

    telltale: columns that only this format has; refused: why such a file can't be simulated; credit: who made it.
    """

    name: str
    columns: Mapping[str, str]
    telltale: frozenset[str] = frozenset()
    refused: str = ""
    credit: str = ""


OURS = Format(
    "tuneyard",
    {
        name: name
        for name in ("job_id", "submit_s", "duration_s", "gpus", "user", "project", "pool", "priority")
    },
)
PUBLISHED = (
    Format(
        "Helios (Venus)",
        {
            "job_id": "job_id",
            "submit_s": "submit_s",
            "duration_s": "duration_s",
            "num_gpus": "gpus",
            "num_cpus": "",
            "user": "user",
            "vc": "pool",
            "status": "",
        },
        telltale=frozenset({"num_gpus", "vc"}),
        credit="Helios, S-Lab-System-Group/HeliosData, CC BY 4.0",
    ),
    Format(
        "Rubick",
        {
            "trace": "",
            "name": "",
            "submission_time": "submit_s",
            "duration": "duration_s",
            "application": "user",
            "num_gpus": "gpus",
            "num_cpus": "",
            "bandwidth": "",
            "exec_plan": "",
            "steps": "",
            "is_sla": "",
        },
        telltale=frozenset({"exec_plan", "is_sla"}),
        credit="Rubick, AlibabaPAI/reconfigurable-dl-scheduler, Apache-2.0",
    ),
    Format(
        "Titan",
        {
            "trace": "",
            "name": "",
            "submission_time": "submit_s",
            "application": "user",
            "num_gpus": "gpus",
            "target_batch_size": "",
            "target_lr": "",
            "target_gradient_steps": "",
            "target_metric": "",
        },
        telltale=frozenset({"target_gradient_steps", "target_metric"}),
        refused="a trace of Titan has no durations: it names a target in gradient steps, and no file beside it says "
        "how long a step takes; add a duration_s column of your own measurements, under tuneyard's own headers",
        credit="Titan, gaow0007/TitanSched, MIT",
    ),
)
NEEDED = ("submit_s", "duration_s", "gpus")


@dataclass(frozen=True)
class Trace:
    """Jobs in the order of the file. where: of each, for messages ("line 12"); credit: whom to name with a result."""

    source: str
    jobs: tuple[TraceJob, ...]
    where: tuple[str, ...]
    format: str = OURS.name
    credit: str = ""


@dataclass
class _Faults:
    source: str
    found: list[Fault] = field(default_factory=list)

    def add(self, path: str, given: str, problem: str, fix: str = "") -> None:
        self.found.append(Fault(path, given[:80], problem, fix))
        if len(self.found) >= MAX_FAULTS:
            self.found.append(
                Fault("file", "", f"the first {MAX_FAULTS} faults are shown; there may be more")
            )
            self.end()

    def end(self) -> None:
        if self.found:
            raise SpecError(self.found, self.source)


def load_trace(path: Path, where: Sequence[tuple[str, str]] = ()) -> Trace:
    """The trace in a file. where: (column, value) pairs that a row must have to count.

    Raises SpecError with every fault, UsageError where the file can't be read or names nothing to simulate.
    """
    try:
        with path.open("rb") as raw:
            plain = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == GZIP else raw
            return read_trace(io.TextIOWrapper(plain, "utf-8-sig", newline=""), str(path), where)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text in UTF-8 ({error.reason} at byte {error.start})") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{path} is a damaged gzip file: {error}; fetch or make it again") from None
    except csv.Error as error:
        raise UsageError(f"{path} is not readable as CSV: {error}") from None
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}") from None


def read_trace(lines: Iterable[str], source: str, where: Sequence[tuple[str, str]] = ()) -> Trace:
    """The trace in the lines of a CSV file. Raises SpecError with every fault."""
    reader = csv.reader(lines, strict=True)
    header = [name.strip() for name in next(reader, [])]
    faults = _Faults(source)
    known = _recognised(header, faults)
    for column, _ in where:
        if column not in header:
            raise UsageError(f"{source} has no column {column!r}; it has {', '.join(header)}")
    rows = _rows(reader, header, where, faults)
    jobs: list[TraceJob] = []
    places: list[str] = []
    seen: dict[int, int] = {}
    before: tuple[float, int] | None = None
    subset = ""
    for line, row in rows:
        if len(jobs) == MAX_JOBS:
            faults.add(f"line {line}", "", f"is more than {MAX_JOBS:,} jobs", "split the trace by time")
            faults.end()
        picked = row.get(SUBSETS, "")
        if subset and picked != subset:
            fix = f"it holds several traces; take one with --where {SUBSETS}={subset}"
            faults.add(f"line {line}, {SUBSETS}", picked, f"is another trace than {subset}", fix)
            faults.end()
        subset = picked
        values = {known.columns.get(column, column): (column, row[column]) for column in header}
        job = _job(line, values, len(jobs) + 1, faults)
        if job is None:
            continue
        column = values["submit_s"][0]
        if before and job.submit_s < before[0]:
            given = f"{job.submit_s:g}, after {before[0]:g} in line {before[1]}"
            faults.add(f"line {line}, {column}", given, "is out of order", "sort the rows by it")
        before = (job.submit_s, line)
        if job.job_id in seen:
            fix = f"line {seen[job.job_id]} has it; give each job its own"
            faults.add(f"line {line}, job_id", str(job.job_id), "stands twice", fix)
        seen[job.job_id] = line
        jobs.append(job)
        places.append(f"line {line}")
    faults.end()
    if not jobs:
        filtered = f" with {', '.join(f'{name}={value}' for name, value in where)}" if where else ""
        raise UsageError(f"{source} holds no job{filtered}; a trace has a header and at least one row")
    return Trace(source, tuple(jobs), tuple(places), known.name, known.credit)


def _recognised(header: Sequence[str], faults: _Faults) -> Format:
    """Which format a header is. Ends with the faults of a header that is none."""
    own = ", ".join(OURS.columns)
    if len(header) == 1 and (mark := next((mark for mark in ";\t|" if mark in header[0]), None)):
        faults.add("line 1", header[0], f"has {mark!r} between its columns", "separate them by commas")
        faults.end()
    if not any(header):
        faults.add("line 1", "", "there is no header", f"begin with the columns, of {own}")
        faults.end()
    named = next((one for one in PUBLISHED if one.telltale <= set(header)), OURS)
    if named.refused:
        raise UsageError(f"{faults.source}: {named.refused}")
    for column in header:
        if header.count(column) > 1:
            faults.add("line 1", column, "is a column that stands twice", "rename or remove one")
            faults.end()
        if column in named.columns:
            continue
        if named is OURS and column.startswith(ON_CARD):
            try:
                find_card(column.removeprefix(ON_CARD))
            except UsageError as error:
                faults.add("line 1", column, "is no column of a card", str(error))
            continue
        close = get_close_matches(column, named.columns, n=1, cutoff=0.6)
        fix = f"did you mean {close[0]}?" if close else f"remove it; known are {', '.join(named.columns)}"
        faults.add("line 1", column, "is an unknown column", fix)
    there = {named.columns.get(column) for column in header}
    for wanted in NEEDED:
        if wanted not in there:
            column = next(name for name, mapped in named.columns.items() if mapped == wanted)
            faults.add("line 1", ",".join(header), f"has no column {column}", f"add it; all of ours: {own}")
    faults.end()
    return named


def _rows(
    reader: Iterator[list[str]], header: Sequence[str], where: Sequence[tuple[str, str]], faults: _Faults
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and cells of each row that counts; blank lines do not."""
    line = 1
    for cells in reader:
        line = getattr(reader, "line_num", line + 1)
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            problem = f"has {len(cells)} cells, the header {len(header)}"
            faults.add(f"line {line}", ",".join(cells), problem, "quote a cell that holds a comma")
            continue
        row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        if all(row[column] == value for column, value in where):
            yield line, row


def _job(line: int, values: Mapping[str, tuple[str, str]], number: int, faults: _Faults) -> TraceJob | None:
    """The job of one row, None after a fault in it."""
    count = len(faults.found)

    def at(name: str) -> str:
        return f"line {line}, {values[name][0]}"

    def text(name: str) -> str:
        return values.get(name, ("", ""))[1]

    submit_s = _number(at("submit_s"), text("submit_s"), faults)
    duration_s = _number(at("duration_s"), text("duration_s"), faults, more_than_zero=True)
    gpus = _whole(at("gpus"), text("gpus"), faults, least=1)
    job_id = _whole(at("job_id"), text("job_id"), faults, least=0) if text("job_id") else number
    priority = _priority(at("priority"), text("priority"), faults) if text("priority") else DEFAULT_PRIORITY
    by_card = _by_card(line, values, faults)
    if len(faults.found) > count:
        return None
    pool = text("pool")
    return TraceJob(
        job_id=job_id,
        submit_s=submit_s,
        duration_s=duration_s,
        gpus=gpus,
        user=text("user"),
        project=text("project") or pool or DEFAULT_PROJECT,
        pool=pool,
        priority=priority,
        seconds_by_card=by_card,
    )


def _by_card(
    line: int, values: Mapping[str, tuple[str, str]], faults: _Faults
) -> tuple[tuple[str, float], ...] | None:
    """Seconds by the name of the card, None in a trace without such columns."""
    columns = [column for column in values if column.startswith(ON_CARD)]
    if not columns:
        return None
    found = [
        (find_card(column.removeprefix(ON_CARD)).name, _number(f"line {line}, {column}", given, faults, True))
        for column in columns
        if (given := values[column][1])
    ]
    if not found:
        faults.add(f"line {line}", "", "fits no card", f"fill at least one of {', '.join(columns)}")
    return tuple(found)


def _number(path: str, given: str, faults: _Faults, more_than_zero: bool = False) -> float:
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    low = "more than 0" if more_than_zero else "from 0"
    if not math.isfinite(value):
        faults.add(path, given, "is not a number", f"write seconds {low}")
    elif value < 0 or (more_than_zero and value == 0):
        faults.add(path, given, "is negative" if value < 0 else "is nothing", f"write seconds {low}")
    return value


def _whole(path: str, given: str, faults: _Faults, *, least: int) -> int:
    if _is_whole(given) and least <= int(given):
        return int(given)
    faults.add(path, given, "is no such number", f"write a whole number from {least}")
    return least


def _is_whole(given: str) -> bool:
    return given.isascii() and given.isdigit() and len(given) < 17


def _priority(path: str, given: str, faults: _Faults) -> int:
    """As a job file has it: a number, a class, or a number in its class."""
    try:
        found: int = read_priority(int(given) if _is_whole(given) else given)
    except ValueError as error:
        problem, _, fix = str(error).partition(": ")
        faults.add(path, given, problem, fix)
        return DEFAULT_PRIORITY
    return found
