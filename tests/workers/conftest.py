"""Inputs that every trainer test shares, made once."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.workers.agents import Host
from tests.workers.builders import make_tokenizer, prompt_rows, write_rows
from tests.workers.fake_server import FakeServer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl", prompt_rows())


@pytest.fixture(scope="module", autouse=True)
def libraries_stay() -> None:
    """A trace collects garbage before each pass: what the libraries made need not be gone through nine times."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Models this small only wait for each other's threads."""
    torch.set_num_threads(1)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """For host agents: a server's side of the link, on loopback."""
    fake = FakeServer().up()
    yield fake
    fake.down()


@pytest.fixture
def host(server: FakeServer, tmp_path: Path) -> Iterator[Host]:
    """An agent with two CPU cards that belongs to `server`."""
    made = Host(server, tmp_path)
    yield made
    made.close()
