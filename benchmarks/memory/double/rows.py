"""Rows of the sweep's file, each beside what the projection says of it today."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from benchmarks.memory.double.cases import Case
from jobs.cards import Card, find_card
from jobs.memory.allocator.terms import transient
from jobs.memory.peaks import highest_moments
from jobs.memory.profile import MemoryProfile, trace_key
from jobs.memory.project import Projection, project
from jobs.memory.sequence_lengths import Lengths
from jobs.units import GiB
from workers import machine
from workers.profiler.trace import trace

CSV = Path(__file__).with_name("runs.csv")
VERSIONS = ("torch", "transformers", "trl", "peft", "bitsandbytes")
MEASURED = (
    *("outcome", "requested_bytes", "allocated_bytes", "reserved_bytes", "outside_bytes", "retries"),
    *("cpu_s", "wall_s", "error"),
)
PROJECTED = ("allocated", "reserved", "device", "upper")
COLUMNS = (
    "time",
    *VERSIONS,
    *(one.name for one in fields(Case)),
    *MEASURED,
    *(f"projected_{name}_bytes" for name in PROJECTED),
    "projected_phase",
)
# Profiles are kept here, so that only the first run of a version traces them.
KEPT = Path(os.environ.get("DOUBLE_PROFILES", ".double-profiles"))
_READ: dict[str, Callable[[str], Any]] = {"int": int, "bool": lambda text: text == "True", "str": str}
_known: dict[str, MemoryProfile] = {}


def profile_of(case: Case) -> MemoryProfile:
    """The trace of a case's job."""
    spec = case.spec
    key = hashlib.sha256(trace_key(spec, machine.stack(), None).encode()).hexdigest()[:24]
    if key not in _known:
        file = KEPT / f"{key}.json"
        if file.is_file():
            _known[key] = MemoryProfile.from_dict(json.loads(file.read_text()))
        else:
            _known[key] = trace(spec, [])
            KEPT.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(_known[key].as_dict()))
    return _known[key]


def card_of(case: Case) -> Card:
    """The card with its allocator set as the case has it."""
    card = replace(find_card(case.card), expandable=case.allocator == "expandable")
    return replace(card, memory_bytes=case.limit_gib * GiB) if case.limit_gib else card


def lengths_of(case: Case) -> Lengths:
    """Its rows, counted as a host counts those of a job."""
    return Lengths.counted(Counter(case.rows), rows=len(case.rows))


def valid_of(case: Case) -> int:
    """Most tokens of a micro-batch that are no padding."""
    return lengths_of(case).most_valid(case.micro_batch)


def projection_of(case: Case) -> Projection:
    """What the product says of it, its data counted."""
    return project(
        profile_of(case),
        case.place,
        sequence_length=case.length,
        card=card_of(case),
        equal_rows=not case.varied,
        valid=valid_of(case),
        sample=lengths_of(case).sample(),
    )


@dataclass(frozen=True)
class Run:
    """A case that ran to its end, in bytes. live: traced, without what the allocator and cuBLAS add; moving, transient,
    loss: what its terms go by (jobs/memory/allocator/terms.py); capped: memory ran short, so the allocator gave some
    back.
    """

    case: Case
    allocated: int
    requested: int
    reserved: int
    live: int
    moving: float
    transient: float
    loss: float
    said: Projection
    capped: bool


def cases_of(path: Path) -> list[tuple[Case, dict[str, str]]]:
    """The cases of a file, each with its row."""
    if not path.is_file():
        return []
    kinds = {one.name: _READ[str(one.type)] for one in fields(Case)}
    with path.open(encoding="utf-8") as file:
        return [
            (Case(**{name: read(row[name]) for name, read in kinds.items()}), row)
            for row in csv.DictReader(file)
        ]


def runs_of(path: Path) -> list[Run]:
    """Those of a file that ran."""
    return [_run(case, row) for case, row in cases_of(path) if row["outcome"] == "ran"]


def _run(case: Case, row: Mapping[str, str]) -> Run:
    said = projection_of(case)
    found = highest_moments(
        profile_of(case), [case.place], [case.length], "cuda", not case.varied, [valid_of(case)]
    )
    allocated, requested, reserved = (
        int(row[f"{name}_bytes"]) for name in ("allocated", "requested", "reserved")
    )
    return Run(
        case=case,
        allocated=allocated,
        requested=requested,
        reserved=reserved,
        live=max(said.phases.values()),
        moving=float(found.moving[0]),
        transient=float(transient(found)[0]),
        loss=float(found.loss.loss[0]),
        said=said,
        capped=int(row["retries"]) > 0,
    )


def append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows to the end of a file, with a header where it begins."""
    new = not path.exists() or path.stat().st_size == 0
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", restval="")
    if new:
        writer.writeheader()
    writer.writerows(rows)
    with path.open("a", encoding="utf-8") as file:
        file.write(text.getvalue())
