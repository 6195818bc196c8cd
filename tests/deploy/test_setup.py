"""The Makefile, the gate and the pins: what a fresh machine meets first."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

CHECKOUT = Path(__file__).resolve().parents[2]
PINS = dict(
    line.split("==")
    for line in (CHECKOUT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements() -> list[Requirement]:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(text) for group in groups for text in group]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_requirement_is_pinned_to_a_version_it_allows(requirement: Requirement) -> None:
    pins = {normal(name): version for name, version in PINS.items()}
    assert requirement.specifier.contains(pins[normal(requirement.name)])


def test_pins_are_plain_versions_of_other_packages() -> None:
    assert normal("tuneyard") not in {normal(name) for name in PINS}
    assert [name for name, version in PINS.items() if Version(version).local] == []


@pytest.mark.parametrize("script", ["dist", "run", "setup"])
def test_scripts_parse_and_stop_at_the_first_failure(script: str) -> None:
    path = CHECKOUT / ".ci" / script
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)
    assert "set -euo pipefail" in path.read_text()


@pytest.mark.parametrize("target", ["demo", "test", "dist", "check", "bench-cli", "bench-telemetry"])
def test_every_target_sets_up_first(target: str, tmp_path: Path) -> None:
    missing = tmp_path / "venv"
    done = make("-n", target, f"VENV={missing}")
    assert ".ci/setup" in done.stdout.splitlines()[0]
    (missing / "bin").mkdir(parents=True)
    (missing / ".ready").touch()
    assert ".ci/setup" not in make("-n", target, f"VENV={missing}").stdout


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Without MAKEFLAGS, for `make test` itself may be what runs this.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True
    )


def setup(python: Path, venv: Path) -> subprocess.CompletedProcess[str]:
    # A PATH without apt-get, so that nothing is installed on the machine that runs this.
    tools = venv.parent / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "sed", "id"):
        (tools / name).symlink_to(
            next(p for p in (Path("/bin") / name, Path("/usr/bin") / name) if p.exists())
        )
    environment = {"PATH": str(tools), "PYTHON": str(python), "VENV": str(venv)}
    return subprocess.run(
        [CHECKOUT / ".ci" / "setup"], env=environment, capture_output=True, text=True, check=False
    )


def fake_python(folder: Path, body: str) -> Path:
    path = folder / "python3"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_setup_says_which_package_debian_keeps_venv_in(tmp_path: Path) -> None:
    python = fake_python(tmp_path, 'case "$2" in *ensurepip*) exit 1;; esac')
    done = setup(python, tmp_path / "venv")
    assert done.returncode == 1
    assert "apt-get install python3-venv" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_setup_says_that_python_is_too_old(tmp_path: Path) -> None:
    python = fake_python(
        tmp_path, 'case "$2" in *version_info*) exit 1;; esac\n[ "$1" = --version ] && echo "Python 3.9.2"'
    )
    done = setup(python, tmp_path / "venv")
    assert done.returncode == 1
    assert "Python 3.9.2 is too old; tuneyard needs 3.11" in done.stderr


def test_setup_says_that_there_is_no_python(tmp_path: Path) -> None:
    done = setup(tmp_path / "none", tmp_path / "venv")
    assert done.returncode == 1
    assert "was not found" in done.stderr
