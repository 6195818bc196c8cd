"""Files of a host are its user's alone; results outside of its home are open to whom the user's umask lets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOST = """
import os, subprocess, sys
from pathlib import Path
from workers.permissions import keep_private
home, output = Path(sys.argv[1]), Path(sys.argv[2])
os.umask(0o022)
keep_private(home, output)
(home / "log").write_text("x")
subprocess.run([sys.executable, "-c", sys.argv[3], str(output / "result")], check=True)
"""
TRAINER = """
import sys
from pathlib import Path
from workers.permissions import share_result
folder = Path(sys.argv[1])
(folder / "deep").mkdir(parents=True)
(folder / "deep" / "weights").write_text("w")
share_result(folder)
"""


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.rglob("*")}


@pytest.mark.parametrize("inside", [True, False])
def test_what_a_host_and_its_trainers_write(tmp_path: Path, inside: bool) -> None:
    home = tmp_path / "home"
    output = home / "output" if inside else tmp_path / "shared"
    for folder in (home, output):
        folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    subprocess.run([sys.executable, "-c", HOST, str(home), str(output), TRAINER], env=environment, check=True)
    assert (home / "log").stat().st_mode & 0o777 == 0o600
    wanted = (0o700, 0o700, 0o600) if inside else (0o755, 0o755, 0o644)
    assert modes(output) == dict(zip(("result", "deep", "weights"), wanted, strict=True))
