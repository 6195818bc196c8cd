"""benchmarks/gpu/double.py, rehearsed: the double stands in for the card as well, so that nothing may differ."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import double
from tests.cuda_double.processes import REPOSITORY, Cuda

pytestmark = pytest.mark.slow


@pytest.mark.timeout(600)  # four processes that import torch and TRL
def test_two_cases_are_the_same_on_both_sides_and_are_not_run_twice(cuda: Cuda, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    command = [sys.executable, "-m", "benchmarks.gpu.double", "--rehearse", "rtx4090", "--count", "2"]
    command += ["--shapes", "tiny", "--methods", "lora", "--processes", "1", "--csv", str(rows)]
    first = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    said = json.loads(first.stdout.splitlines()[-1])
    assert first.returncode == 0, first.stdout + first.stderr
    assert said["rows"] == said["compared"] == 2 and said["met"]
    for figure in double.FIGURES:
        assert said[figure] == {"mean": 0.0, "worst": 0.0}
    text = rows.read_text()
    again = subprocess.run([*command, "--seconds", "0"], cwd=REPOSITORY, capture_output=True, text=True)
    assert json.loads(again.stdout.splitlines()[-1]) == said
    assert rows.read_text() == text
