"""The systemd units, by systemd's own checker."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
# Every program that a unit may name; verify wants it to be there, and no test machine has it.
INSTALLED = "/opt/tuneyard/bin/tuneyard"


def verify(folder: Path, text: str, name: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (apt-get install systemd)")
    unit = folder / name
    unit.write_text(text.replace(INSTALLED, "/bin/true"))
    return subprocess.run([program, "verify", "--man=no", unit], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_accepts_the_unit_without_a_word(unit: Path, tmp_path: Path) -> None:
    done = verify(tmp_path, unit.read_text(), unit.name)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_would_object_to_a_misspelt_setting(tmp_path: Path) -> None:
    text = (DEPLOY / "tuneyard-host.service").read_text().replace("KillMode=", "KilMode=")
    assert "KilMode" in verify(tmp_path, text, "tuneyard-host.service").stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_restarts_after_failure_and_leaves_no_process_behind(unit: Path) -> None:
    service = section(unit)
    assert service["Restart"] == "on-failure"
    assert service["KillMode"] == "control-group"
    assert service["ExecStart"].startswith(INSTALLED + " ")


def test_the_host_unit_leaves_open_what_cuda_needs() -> None:
    service = section(DEPLOY / "tuneyard-host.service")
    closed = {"PrivateDevices", "MemoryDenyWriteExecute", "DevicePolicy"} & set(service)
    assert not closed
    assert service["OOMPolicy"] == "continue"


def section(unit: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text())
    return dict(parser["Service"])
