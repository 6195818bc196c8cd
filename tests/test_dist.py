"""The sdist and the wheel have all of the packages and nothing else, and everything names one version."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
VERSION = PROJECT["version"]
PACKAGES = ("jobs", "migrations", "orchestrator", "tuneyard", "workers")
FILES = ("CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "constraints.txt", "pyproject.toml")


def packaged() -> set[str]:
    """Every file of the packages in the checkout, by its path there; pages for contributors are not shipped."""
    return {
        path.relative_to(CHECKOUT).as_posix()
        for package in PACKAGES
        for path in (CHECKOUT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md"
    }


@dataclass(frozen=True)
class Built:
    sdist: set[str]
    wheel: set[str]
    metadata: str
    entry_points: str


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both, as `make dist` builds them: the sdist of a copy of the checkout, the wheel of that sdist, offline."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    ignore = shutil.ignore_patterns("__pycache__")
    for package in (*PACKAGES, "tests", "benchmarks", "deploy"):
        shutil.copytree(CHECKOUT / package, source / package, ignore=ignore)
    for name in FILES:
        shutil.copy(CHECKOUT / name, source)
    argv = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with tarfile.open(folder / f"tuneyard-{VERSION}.tar.gz") as archive:
        sdist = {one.name.partition("/")[2] for one in archive.getmembers() if one.isfile()}
    with zipfile.ZipFile(folder / f"tuneyard-{VERSION}-py3-none-any.whl") as archive:
        info = f"tuneyard-{VERSION}.dist-info/"
        return Built(
            sdist,
            set(archive.namelist()),
            archive.read(info + "METADATA").decode(),
            archive.read(info + "entry_points.txt").decode(),
        )


def test_the_wheel_has_the_packages_and_nothing_else(built: Built):
    info = f"tuneyard-{VERSION}.dist-info/"
    metadata = {name.removeprefix(info) for name in built.wheel if name.startswith(info)}
    assert metadata == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
        "top_level.txt",
    }
    assert {name for name in built.wheel if not name.startswith(info)} == packaged()


@pytest.mark.parametrize(
    "name",
    [
        *(f"{package}/py.typed" for package in PACKAGES if package != "migrations"),
        "jobs/examples/tiny/tokenizer/tokenizer.json",
        "migrations/script.py.mako",
        "workers/cuda_double/sources/crt/host_defines.h",
        "workers/cuda_double/sources/memory.c",
    ],
)
def test_what_is_not_python_is_in_the_wheel(name: str, built: Built):
    assert name in built.wheel


def test_the_wheel_can_migrate_from_the_first_version(built: Built):
    numbers = sorted(
        int(found[1])
        for found in map(re.compile(r"migrations/versions/(\d+)_\w+\.py$").match, built.wheel)
        if found
    )
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_sdist_has_what_the_wheel_is_built_of(built: Built):
    made = {"PKG-INFO", "setup.cfg"}
    assert {name for name in built.sdist if not name.startswith("tuneyard.egg-info/")} == packaged() | set(
        FILES
    ) | made


def test_the_command_and_the_readme_are_in_the_metadata(built: Built):
    commands = configparser.ConfigParser()
    commands.read_string(built.entry_points)
    assert dict(commands["console_scripts"]) == {"tuneyard": "orchestrator.cli.main:main"}
    headers, _, readme = built.metadata.partition("\n\n")
    assert f"\nVersion: {VERSION}\n" in headers
    assert "Description-Content-Type: text/markdown" in headers
    assert readme.strip() == (CHECKOUT / "README.md").read_text().strip()


def test_the_image_is_built_of_all_that_the_wheel_needs():
    """setuptools leaves out what it doesn't find: an image without a package would build."""
    text = (CHECKOUT / "deploy" / "Dockerfile").read_text()
    copied = {
        name for line in re.findall(r"^COPY (?!-)(.*) \S+$", text, re.MULTILINE) for name in line.split()
    }
    assert copied >= {
        *PACKAGES,
        PROJECT["readme"],
        *PROJECT["license-files"],
        "pyproject.toml",
        "constraints.txt",
    }


def test_one_version_everywhere():
    assert json.loads((CHECKOUT / "docs" / "openapi.json").read_text())["info"]["version"] == VERSION
    compose = (CHECKOUT / "deploy" / "compose.yaml").read_text()
    assert f"image: tuneyard-server:{VERSION}\n" in compose
    headings = re.findall(r"^## \[(.+?)\]", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == ["Unreleased", VERSION]
