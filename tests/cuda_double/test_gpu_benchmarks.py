"""Benchmarks for a real card run to their end on one that is not there: real allocator, no GPU."""

from __future__ import annotations

import csv
import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.gpu.speed import Work
from jobs.cards import find_card
from jobs.memory.rung import Rung
from tests.cuda_double.processes import REPOSITORY, Cuda

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def ran(cuda: Cuda, module: str, *arguments: str) -> tuple[int, dict[str, object], str]:
    """Exit code, the JSON line, and what went to standard error."""
    done = subprocess.run(
        [str(cuda.environment.python), "-W", "ignore", "-m", module, *arguments],
        cwd=REPOSITORY,
        env=cuda.variables(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1"),
        capture_output=True,
        text=True,
    )
    lines = done.stdout.strip().splitlines()
    assert lines, done.stderr
    return done.returncode, json.loads(lines[-1]), done.stderr


def test_memory_on_the_whole_card(cuda: Cuda, tmp_path: Path) -> None:
    file = tmp_path / "memory.csv"
    code, found, errors = ran(
        cuda,
        "benchmarks.gpu.memory",
        *("--seconds", "1", "--shapes", "0.5B", "--methods", "lora", "--csv", str(file)),
    )
    with file.open(encoding="utf-8") as rows:
        (row,) = csv.DictReader(rows)
    assert row["outcome"] == "ran", row
    assert found["card_bytes"] == find_card("rtx4090").memory_bytes, "what processes can have"
    assert int(row["allocated_bytes"]) == pytest.approx(int(row["projected_allocated_bytes"]), rel=0.03)
    assert code == 0 and found["met"] is True, errors


def test_a_step_of_the_speed_benchmark(cuda: Cuda) -> None:
    asked = {"work": asdict(Work("0.5B", "lora", 128, 1, limit_gib=8)), "rung": asdict(Rung(1, 1))}
    code, found, errors = ran(cuda, "benchmarks.gpu.speed_child", json.dumps(asked))
    assert (code, found["outcome"]) == (0, "ran"), (found, errors)
    assert isinstance(found["nvml_bytes"], int) and found["nvml_bytes"] > 0
