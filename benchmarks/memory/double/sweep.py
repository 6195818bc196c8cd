"""Runs cases on the double, one process at a time, and appends a row each to a file: measured beside projected."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.memory.double.cases import Case
from benchmarks.memory.double.rows import PROJECTED, VERSIONS, append, card_of, cases_of, projection_of
from workers.cuda_double.environment import find, variables


class Runner:
    """The process that runs cases on one card (benchmarks/memory/double/runner.py), started again for another card."""

    def __init__(self) -> None:
        self._card = ""
        self._process: subprocess.Popen[str] | None = None

    def ask(self, case: Case) -> dict[str, Any]:
        """What a run of it finds."""
        if case.card != self._card or self._process is None:
            self.close()
            self._card, self._process = case.card, _started(case.card)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(case)) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()


@contextmanager
def running() -> Iterator[Runner]:
    made = Runner()
    try:
        yield made
    finally:
        made.close()


def _started(card: str) -> subprocess.Popen[str]:
    environment = find()
    alone = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    alone["CUDA_DOUBLE_ANSWERS"] = "0"  # the children answer, each for itself
    return subprocess.Popen(
        [str(environment.python), "-W", "ignore", "-m", "benchmarks.memory.double.runner"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=variables(environment, card) | alone,
    )


def run(cases: Iterable[Case], path: Path, count: int, seconds: float) -> dict[str, Any]:
    """Run `count` of them, except those that the file has, and none after so many seconds."""
    ends = time.monotonic() + seconds
    before = {case for case, _ in cases_of(path)}
    outcomes: dict[str, int] = {}
    with running() as runner:
        for index, case in enumerate(cases):
            if index >= count or time.monotonic() > ends:
                break
            if case in before:
                continue
            row = row_of(case, runner.ask(case))
            append(path, [row])
            outcomes[row["outcome"]] = outcomes.get(row["outcome"], 0) + 1
            print(line(case, row), flush=True)
    return outcomes


def row_of(case: Case, found: dict[str, Any]) -> dict[str, Any]:
    """The row of a case: what it found beside what was said of it."""
    said = projection_of(case)
    return {
        "time": round(time.time()),
        **{name: version(name).partition("+")[0] for name in VERSIONS},  # the CUDA build is of the same
        **asdict(case),
        **found,
        **{f"projected_{name}_bytes": getattr(said, f"{name}_bytes") for name in PROJECTED},
        "projected_phase": said.phase,
    }


def line(case: Case, row: dict[str, Any]) -> str:
    """A row for people."""
    words = (
        f"{case.shape:14} {case.layers:2} {case.method:5} {case.rung:8} {case.micro_batch}x{case.length:<5}"
    )
    words += f" {'varied' if case.varied else 'alike ':6} {case.card:9} {case.allocator:10}"
    if row["outcome"] != "ran":
        return f"{words} {row['outcome']} {row['error']}"
    live, held = (
        row[f"projected_{name}_bytes"] / row[f"{name}_bytes"] - 1 for name in ("allocated", "reserved")
    )
    return f"{words} {row['allocated_bytes'] / 2**30:6.2f} GiB {live:+7.2%} {held:+7.2%}"


def share_of_card(case: Case) -> float:
    """What a case is projected to take of its card's memory."""
    return projection_of(case).device_bytes / card_of(case).memory_bytes
