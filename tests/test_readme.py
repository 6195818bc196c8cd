"""README's tree names every file of the rooms, and nothing that is gone."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
ROOMS = ("jobs", "workers", "orchestrator", "migrations", "deploy", "benchmarks")


def test_the_tree_and_the_files_agree():
    text = (CHECKOUT / "README.md").read_text()
    named = set(re.findall(r"^ {6,8}(\w+\.py) ", text, re.MULTILINE))
    there = {
        path.name for room in ROOMS for path in (CHECKOUT / room).rglob("*.py") if path.name != "__init__.py"
    }
    assert there - named == set(), "not in README's tree"
    assert named - there == set(), "in README's tree, but gone"
