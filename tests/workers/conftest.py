"""Inputs that every trainer test shares, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.workers.builders import make_tokenizer, prompt_rows, write_rows


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl", prompt_rows())


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Models this small only wait for each other's threads."""
    torch.set_num_threads(1)
