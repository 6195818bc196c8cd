"""Each package says which files it has: every one of them, and nothing that is gone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(
    init.parent.relative_to(CHECKOUT).as_posix()
    for room in ("jobs", "workers", "orchestrator")
    for init in (CHECKOUT / room).rglob("__init__.py")
)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_docstring_of_a_package_lists_its_files(package: str):
    folder = CHECKOUT / package
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    listed = set(re.findall(r"^(\w+\.py|\w+/) {2,}\S", docstring, re.MULTILINE))
    modules = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
    packages = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    assert listed == modules | packages


def test_the_benchmarks_are_listed():
    folder = CHECKOUT / "benchmarks"
    listed = set(re.findall(r"^ {4,6}(\w+\.py) ", (folder / "README.md").read_text(), re.MULTILINE))
    assert listed == {path.name for path in folder.rglob("*.py")} - {"__init__.py"}
