"""`cuda`: processes in front of the CUDA double. Without its environment tests are skipped that need it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.errors import Unavailable
from tests.cuda_double.processes import Cuda
from tests.cuda_double.trainers import Trainers
from workers.cuda_double.environment import find
from workers.cuda_double.library import build, build_nvml


@pytest.fixture(scope="session")
def cuda_environment() -> None:
    try:
        made = find()
    except Unavailable as error:
        pytest.skip(str(error))
    # After a change of its sources the library is another one.
    build(made.libraries, made.packages / "torch", made.headers, made.beside())


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


@pytest.fixture(scope="session")
def trainers(cuda_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainers]:
    """A host with a large card, a small one and one of another type, warm for trainers of all tests here."""
    host = Trainers(find(), tmp_path_factory.mktemp("trainers"), "rtx4090,rtx4090:1800MiB,h100:4GiB")
    yield host
    host.close()


@pytest.fixture(autouse=True)
def _well(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test had go wrong with the trainers' cards is well for the next one."""
    yield
    if "trainers" in request.fixturenames:
        request.getfixturevalue("trainers").faults.unlink(missing_ok=True)
