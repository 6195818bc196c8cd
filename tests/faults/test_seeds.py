"""Worlds of faults, each to its end. `make soak` lives through more of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.__main__ import live, template

SEEDS = 300
AT_A_TIME = 15


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template(tmp_path_factory.mktemp("template"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, SEEDS, AT_A_TIME))
def test_every_world_comes_to_its_end(made: Path, tmp_path: Path, first: int) -> None:
    for seed in range(first, first + AT_A_TIME):
        live(made, tmp_path, seed)
