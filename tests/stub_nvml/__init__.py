"""A driver for tests: the CUDA double's NVML, and a sampler that runs on it through the real pynvml."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from workers.cuda_double.library import build_nvml

_REPOSITORY = Path(__file__).parents[2]


def compile_stub(folder: Path) -> Path:
    """Compile <folder>/libnvidia-ml.so.1; returns the folder, for LD_LIBRARY_PATH."""
    return build_nvml(folder)


def card_line(uuid: str, **readings: object) -> str:
    """One card of the readings file: a busy 80 GiB card, except what the test says."""
    usual: dict[str, object] = {
        "name": "Stub_H100",
        "total": 80 * 2**30,
        "used": 2**30,
        "reserved": 512 * 2**20,
        "util": 97,
        "power": 350_000,
        "limit": 700_000,
        "temp": 61,
        "sm": 1755,
        "mem": 2619,
        "energy": 123_456_789,
        "throttle": 4,
        "ecc_c": 3,
        "ecc_u": 0,
    }
    return " ".join(f"{key}={value}" for key, value in {"uuid": uuid, **usual, **readings}.items())


def write_cards(state: Path, *lines: str) -> None:
    """Set the state in one step, so that the stub never reads half of it."""
    staged = state.with_suffix(".tmp")
    staged.write_text("\n".join(lines) + "\n")
    staged.replace(state)


class StubSampler:
    """workers.gpus.CudaCards in a process of its own: the loader reads LD_LIBRARY_PATH only at its start."""

    def __init__(self, library: Path, state: Path) -> None:
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(library),
            "CUDA_DOUBLE_READINGS": str(state),
            "PYTHONPATH": str(_REPOSITORY),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stub_nvml.sampler"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> StubSampler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=10)

    def sample(self, now: float) -> dict[str, Any]:
        """{"infos": {uuid: GpuInfo}, "samples": {uuid: GpuSample}}, or {"error": text} without a driver."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{now}\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert isinstance(answer, dict)
        return answer
