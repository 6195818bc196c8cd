"""A card that falls off the bus: what trains on it is ended, and the job goes on elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
import torch

from jobs.messages.reports import Progress
from jobs.state import Outcome
from jobs.units import GiB
from tests.workers.agents import IGNORES, Host, wait_until
from tests.workers.builders import make_assignment
from tests.workers.fake_server import FakeServer
from workers.agent.death_cause import ran_out
from workers.agent.supervisor import LOST_CARD_S, Supervisor
from workers.attempt_folder import AttemptFolder
from workers.trainer.allocator import NoCuda
from workers.trainer.callbacks import Figures
from workers.trainer.faults.failing import card_fault, failure, ran_out_of_memory
from workers.trainer.memory_meter import Meter

LOST = frozenset({"cpu-alpha-1"})


def cuda_error(code: int, text: str) -> torch.AcceleratorError:
    """As torch raises it (torch/csrc/Exceptions.cpp, 2.13)."""
    error = torch.AcceleratorError(f"CUDA error: {text}\nFor more detailed error information, run with ..")
    error.error_code = code
    return error


def test_a_trainer_that_waits_for_a_lost_card_is_ended(server: FakeServer, host: Host) -> None:
    trainer = host.train(7, IGNORES)
    supervisor, folder = Supervisor(host.root), host.folder(7)

    def look(now: float, lost: frozenset[str]) -> int:
        """Lines that tell of an end."""
        supervisor.supervise(now)
        supervisor.lose_cards(lost, now)
        return int(folder.ended() is not None)

    wait_until(lambda: bool(folder.progress()))
    assert look(100.0, LOST) == 0, "it may notice by itself"
    assert look(100.0 + LOST_CARD_S - 1, LOST) == 0
    assert look(100.0 + LOST_CARD_S, frozenset()) == 0, "it came back"
    assert look(200.0, frozenset({"cpu-alpha-0"})) + look(300.0, frozenset({"cpu-alpha-0"})) == 0, "another's"
    assert look(400.0, LOST) == 0
    assert look(400.0 + LOST_CARD_S, LOST) == 1
    assert not psutil.pid_exists(trainer.pid)
    ended = folder.ended()
    assert ended is not None and (ended.outcome, ended.steps) == (Outcome.LOST, 3)
    assert ended.message.startswith("the trainer was ended: its card cpu-alpha-1 is lost; 3 of ")


@pytest.mark.parametrize(
    ("error", "outcome", "says"),
    [
        (cuda_error(214, "uncorrectable ECC error encountered"), Outcome.LOST, "its memory has an error"),
        (cuda_error(999, "unknown error"), Outcome.LOST, "(CUDA error: unknown error)"),
        (
            cuda_error(46, "CUDA-capable device(s) is/are busy or unavailable"),
            Outcome.LOST,
            "another process",
        ),
        (cuda_error(710, "device-side assert triggered"), Outcome.FAILED, "device-side assert"),
        (cuda_error(700, "an illegal memory access was encountered"), Outcome.FAILED, "illegal memory"),
        (cuda_error(2, "out of memory"), Outcome.OOM, "memory ran out before the end of the first step"),
        (RuntimeError("CUDA driver error: out of memory"), Outcome.OOM, "on cpu with 8.00 GiB"),
        (RuntimeError("Triton Error [CUDA]: out of memory"), Outcome.OOM, "memory ran out"),
        (
            RuntimeError("NCCL error ..: Cuda failure 2 'out of memory'"),
            Outcome.OOM,
            "NCCL found no memory for",
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), Outcome.OOM, "memory ran out"),
        (
            RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
            Outcome.FAILED,
            "CUDNN_STATUS_NOT_SUPPORTED",
        ),
        (NoCuda("CUDA does not start on this host: no driver"), Outcome.HOST_FAULT, "no driver"),
    ],
)
def test_what_an_error_of_cuda_means(tmp_path: Path, error: Exception, outcome: Outcome, says: str) -> None:
    made = make_assignment(tmp_path, tmp_path)
    figures = Figures(Meter(made.card), measured=False)
    ended = failure(error, figures, made, AttemptFolder(tmp_path, 1))
    assert ended.outcome is outcome and says in ended.message, ended.message
    try:
        try:
            raise error
        except Exception as cause:
            raise ValueError("what a library made of it") from cause
    except ValueError as wrapped:
        assert ran_out_of_memory(wrapped) == (outcome is Outcome.OOM)
        assert (card_fault(wrapped) is not None) == (outcome is Outcome.LOST)


@pytest.mark.parametrize(
    ("error", "of_host"),
    [
        (MemoryError(), True),
        (OSError(12, "Cannot allocate memory"), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), False),
        (cuda_error(2, "out of memory"), False),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else None,
)
def test_memory_that_is_no_tensors_is_told_apart(tmp_path: Path, error: Exception, of_host: bool) -> None:
    """No projection is of it: what an endless chat template takes says nothing of the next job."""
    made = make_assignment(tmp_path, tmp_path)
    ended = failure(error, Figures(Meter(made.card), measured=False), made, AttemptFolder(tmp_path, 1))
    assert (ended.outcome, ended.host_memory) == (Outcome.OOM, of_host), ended.message
    assert ("no tensor's" in ended.message) == of_host


@pytest.mark.parametrize(
    ("kept", "outcome"),
    [
        (cuda_error(999, "unknown error"), Outcome.LOST),
        (cuda_error(700, "an illegal memory access was encountered"), Outcome.FAILED),
        (None, Outcome.FAILED),
    ],
    ids=["lost", "the job's own", "well"],
)
@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(..)`",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
        "NCCL error in: ..: unhandled cuda error",
    ],
)
def test_a_library_that_only_failed_has_the_card_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, kept: Exception | None, outcome: Outcome
) -> None:
    def synchronize() -> None:
        if kept is not None:
            raise kept

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    made = make_assignment(tmp_path, tmp_path)
    figures = Figures(Meter(made.card), measured=False)
    assert failure(RuntimeError(words), figures, made, AttemptFolder(tmp_path, 1)).outcome is outcome


@pytest.mark.parametrize(
    ("words", "memory"),
    [
        (
            ["Error out of memory at line 383 in file csrc/ops.cu"],
            True,
        ),  # bitsandbytes, which then calls exit(1)
        (["terminate called after throwing", "  what():  CUDA error: out of memory"], True),
        (["Error invalid argument at line 383 in file csrc/ops.cu"], False),
        ([], False),
    ],
)
def test_a_trainer_that_a_library_ended_for_want_of_memory(
    tmp_path: Path, words: Sequence[str], memory: bool
) -> None:
    folder = AttemptFolder(tmp_path, 9)
    folder.path.mkdir(parents=True)
    folder.log_path.write_text("\n".join(words))
    made = make_assignment(tmp_path, tmp_path)
    gpu = made.gpus[0].model_copy(update={"kind": "cuda", "name": "NVIDIA L4", "memory_bytes": 24 * GiB})
    full = Progress(ts=1.0, step=1, total_steps=2, device_bytes=24 * GiB)  # which says nothing on a GPU
    said = ran_out(folder, made.model_copy(update={"gpus": [gpu]}), full)
    assert (said is not None) == memory
    assert said is None or said.startswith(
        "memory ran out on NVIDIA L4 with 24.00 GiB: the process ended itself"
    )
