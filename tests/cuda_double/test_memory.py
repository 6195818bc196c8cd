"""Memory of cards: torch's own allocator on them, shared by all processes of a host, and NVML agreeing with it."""

from __future__ import annotations

import pytest

from jobs.units import GiB, MiB
from tests.cuda_double.processes import Cuda

# A process that holds GiB of a card until it is told to end, and answers what it is told of the card.
HOLD = """
import torch
held = torch.empty({gib} << 30, dtype=torch.uint8, device="cuda")
answer(free=torch.cuda.mem_get_info()[0], total=torch.cuda.mem_get_info()[1])
sys.stdin.readline()
answer(free=torch.cuda.mem_get_info()[0])
sys.stdin.readline()
"""
SMI = """
import pynvml
pynvml.nvmlInit()
card = pynvml.nvmlDeviceGetHandleByIndex(0)
info = pynvml.nvmlDeviceGetMemoryInfo(card, version=pynvml.nvmlMemory_v2)
found = pynvml.nvmlDeviceGetComputeRunningProcesses(card)
answer(total=info.total, used=info.used, reserved=info.reserved, free=info.free,
       processes={one.pid: one.usedGpuMemory for one in found})
"""


def test_torch_allocates_and_runs_out_as_on_a_card(cuda: Cuda) -> None:
    made = cuda.run(
        """
import torch
free, total = torch.cuda.mem_get_info()
held = torch.empty(20 << 30, dtype=torch.uint8, device="cuda")
after = torch.cuda.mem_get_info()[0]
try:
    torch.empty(4 << 30, dtype=torch.uint8, device="cuda")
    error = ""
except torch.OutOfMemoryError as raised:
    error = str(raised)
del held
torch.cuda.empty_cache()
answer(free=free, total=total, after=after, error=error, last=torch.cuda.mem_get_info()[0],
       name=torch.cuda.get_device_name(), capability=torch.cuda.get_device_capability())
"""
    )
    assert made["name"] == "NVIDIA GeForce RTX 4090" and made["capability"] == [8, 9]
    assert made["total"] == 24210 * MiB  # less than the 24564 MiB that NVML shows
    assert 400 * MiB < made["total"] - made["free"] < 700 * MiB  # the context
    assert made["free"] - made["after"] == 20 * GiB and made["last"] == made["free"]
    assert "GPU 0 has a total capacity of 23.64 GiB" in made["error"]


def test_processes_share_a_card_and_a_killed_one_gives_its_memory_back(cuda: Cuda) -> None:
    one = cuda.start(HOLD.format(gib=8))
    first = one.answer()
    two = cuda.start(HOLD.format(gib=6))
    second = two.answer()
    context = first["total"] - first["free"] - 8 * GiB
    assert second["free"] == first["free"] - 6 * GiB - context
    seen = cuda.run(SMI)
    assert seen["processes"] == {
        str(one.popen.pid): 8 * GiB + context,
        str(two.popen.pid): 6 * GiB + context,
    }
    assert seen["used"] == sum(seen["processes"].values()) and seen["free"] == second["free"]
    assert seen["total"] == 24564 * MiB == seen["used"] + seen["free"] + seen["reserved"]
    one.kill()
    two.go_on()
    assert two.answer()["free"] == second["total"] - 6 * GiB - context
    assert cuda.run(SMI)["processes"] == {str(two.popen.pid): 6 * GiB + context}


def test_two_processes_do_not_get_the_same_bytes(cuda: Cuda) -> None:
    cuda.start(HOLD.format(gib=16)).answer()
    made = cuda.run(
        """
import torch
try:
    torch.empty(16 << 30, dtype=torch.uint8, device="cuda")
    answer(error="")
except torch.OutOfMemoryError as raised:
    answer(error=str(raised))
"""
    )
    assert "out of memory" in made["error"]


def test_memory_that_the_driver_can_move_away_makes_nothing_fail(cuda: Cuda) -> None:
    """cudaMallocManaged, which paged optimizers use: it is on the card as far as there is room."""
    cuda.cards = "rtx4090:4GiB"
    made = cuda.run(
        """
import ctypes, torch
torch.cuda.init()
runtime = ctypes.CDLL("libcudart.so.13")
at = ctypes.c_void_p()
free = torch.cuda.mem_get_info()[0]
assert runtime.cudaMallocManaged(ctypes.byref(at), ctypes.c_size_t(3 << 30), 1) == 0
beside = torch.cuda.mem_get_info()[0]
held = torch.empty(3 << 30, dtype=torch.uint8, device="cuda")
answer(free=free, beside=beside, last=torch.cuda.mem_get_info()[0])
"""
    )
    assert made["free"] - made["beside"] == 3 * GiB and made["last"] == 0


@pytest.mark.parametrize("segments", ["False", "True"])
def test_allocator_settings_are_torchs_own(cuda: Cuda, segments: str) -> None:
    """Both kinds of segments: what is free is given back whole, or by pieces."""
    made = cuda.run(
        """
import torch
held = [torch.empty(256 << 20, dtype=torch.uint8, device="cuda") for _ in range(4)]
del held[1]
held.append(torch.empty(384 << 20, dtype=torch.uint8, device="cuda"))
before = torch.cuda.memory_reserved()
torch.cuda.empty_cache()
answer(before=before, after=torch.cuda.memory_reserved(), peak=torch.cuda.max_memory_allocated(),
       free=torch.cuda.mem_get_info()[0], total=torch.cuda.mem_get_info()[1])
""",
        PYTORCH_CUDA_ALLOC_CONF=f"expandable_segments:{segments}",
    )
    assert made["peak"] == (3 * 256 + 384) * MiB
    part = 20 * MiB if segments == "True" else 0  # these are mapped by pieces of 20 MiB
    assert 0 <= made["after"] - made["peak"] <= 3 * part
    assert 0 <= made["before"] - (4 * 256 + 384) * MiB <= 3 * part


STEPS = """
import torch
from workers.trainer.state_apart import state_apart
weights = [torch.nn.Parameter(torch.empty(16 << 20, dtype=torch.bfloat16, device="cuda")) for _ in range(8)]
optimizer = torch.optim.AdamW(weights, fused=True)
if {apart}:
    state_apart(optimizer)
    optimizer.step()  # left out: nothing has a gradient, so there is no state yet
for _ in range(3):
    held = [torch.empty(300 << 20, dtype=torch.uint8, device="cuda") for _ in range(8)]
    del held
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    optimizer.zero_grad()
answer(reserved=torch.cuda.memory_reserved(), live=torch.cuda.memory_allocated(),
       state=len(optimizer.state), hooks=len(optimizer._optimizer_step_pre_hooks))
"""


def test_optimizer_state_takes_no_piece_of_an_activations_segment(cuda: Cuda) -> None:
    """256 MiB of weights, twice as much state, and 2,400 MiB that each step takes again: nothing is in its way."""
    among = cuda.run(STEPS.format(apart=False))
    apart = cuda.run(STEPS.format(apart=True))
    assert among["live"] == apart["live"] and apart["state"] == 8
    assert apart["reserved"] <= (256 + 512 + 2400 + 32) * MiB
    assert among["reserved"] > apart["reserved"] + 300 * MiB
    assert apart["hooks"] == 0, "later updates are torch's own alone"


def test_workspaces_of_cublas_are_taken_before_the_first_step(cuda: Cuda) -> None:
    made = cuda.run(
        """
import torch
from workers.trainer.allocator import settle
found = settle(0)
before = torch.cuda.memory_allocated()
ones = torch.ones(512, 512, device="cuda", dtype=torch.bfloat16, requires_grad=True)
(ones @ ones).sum().backward()
del ones
answer(before=before, after=torch.cuda.memory_allocated(), expandable=found.expandable)
"""
    )
    assert (
        made["before"] == made["after"] == 2 * (2 * 4096 * 1024 + 8 * 16 * 1024)
    )  # this thread's and autograd's
    assert made["expandable"] is False
