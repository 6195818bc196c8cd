"""`cuda`: processes in front of the CUDA double. Without its environment tests are skipped that need it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.errors import Unavailable
from tests.cuda_double.processes import Cuda
from workers.cuda_double.environment import find
from workers.cuda_double.library import build_nvml


@pytest.fixture(scope="session")
def cuda_environment() -> None:
    try:
        find()
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def cuda(cuda_environment: None, tmp_path: Path) -> Iterator[Cuda]:
    """One host of a test, with a ledger of its own."""
    host = Cuda(find(), tmp_path)
    yield host
    host.close()


@pytest.fixture(scope="session")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of NVML alone, which takes a compiler and no CUDA."""
    return build_nvml(tmp_path_factory.mktemp("nvml"))
