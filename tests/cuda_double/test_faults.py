"""What goes wrong when it is asked to, time that work takes, and counts of what was launched."""

from __future__ import annotations

import pytest

from jobs.units import MiB
from tests.cuda_double.processes import Cuda
from workers.cuda_double.traces import read_traces


def test_an_allocation_fails_when_it_is_asked_to(cuda: Cuda) -> None:
    """torch first empties its cache and tries again, so two allocations in a row have to fail."""
    code = """
import torch
made = []
for size in range(4):
    try:
        made.append(torch.empty(64 << 20, dtype=torch.uint8, device="cuda"))
    except torch.OutOfMemoryError:
        made.append(None)
answer(made=[one is not None for one in made], ooms=torch.cuda.memory_stats()["num_ooms"])
"""
    faults = "oom allocation=3; oom allocation=4"
    assert cuda.run(code, CUDA_DOUBLE_FAULTS=faults) == {"made": [True, True, False, True], "ooms": 1}
    assert cuda.run(code, CUDA_DOUBLE_FAULTS="oom card=0 allocation=3")["made"] == [True] * 4


def test_a_card_is_lost_and_found_again_for_cuda_and_nvml_alike(cuda: Cuda) -> None:
    faults = cuda.folder / "faults"
    process = cuda.start(
        """
import pynvml, torch
def works(card):
    try:
        torch.ones(8, device=f"cuda:{card}").add_(1)
        torch.cuda.synchronize(card)
    except Exception as error:
        return str(error).splitlines()[0]
    return "well"
pynvml.nvmlInit()
def reads(card):
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(card)
        return str(pynvml.nvmlDeviceGetMemoryInfo(handle).total > 0)
    except pynvml.NVMLError as error:
        return str(error)
for _ in range(3):
    answer(works=[works(0), works(1)], reads=[reads(0), reads(1)])
    sys.stdin.readline()
""",
        CUDA_DOUBLE_CARDS="t4,t4",
        CUDA_DOUBLE_FAULTS=str(faults),
    )
    assert process.answer() == {"works": ["well", "well"], "reads": ["True", "True"]}
    faults.write_text("# pulled out\nlost card=1\n")
    process.go_on()
    lost = process.answer()
    assert lost["works"][0] == "well" and "CUDA error" in lost["works"][1]
    assert lost["reads"] == ["True", "GPU is lost"]
    faults.unlink()
    process.go_on()
    assert process.answer()["reads"] == ["True", "True"]


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ("explode", "has explode, which begins with none of lost, oom, fixed and nan"),
        ("lost card=9", "has lost card=9, but the host has 1 cards"),
        ("oom launch=soon", "soon is no whole number"),
        ("lost allocation=3", "allocation=3 means nothing"),
    ],
)
def test_faults_that_are_none_end_the_process(cuda: Cuda, faults: str, words: str) -> None:
    process = cuda.start(
        "import ctypes\nctypes.CDLL('libcudart.so.13').cudaFree(None)", CUDA_DOUBLE_FAULTS=faults
    )
    _, errors = process.popen.communicate()
    assert process.popen.returncode == 70 and words in errors


def test_a_block_waits_for_the_stream_that_uses_it(cuda: Cuda) -> None:
    """What another stream still works on is not given to the next tensor: kernels that take time hold memory."""
    code = """
import torch
side = torch.cuda.Stream()
for _ in range(4):
    block = torch.empty(100 << 20, dtype=torch.uint8, device="cuda")
    with torch.cuda.stream(side):
        block.add_(1)
    block.record_stream(side)
    del block
answer(reserved=torch.cuda.memory_reserved(), idle=side.query())
"""
    assert cuda.run(code) == {"reserved": 100 * MiB, "idle": True}
    an_hour = str(3600 * 10**6)
    assert cuda.run(code, CUDA_DOUBLE_KERNEL_US=an_hour) == {"reserved": 400 * MiB, "idle": False}


def test_events_tell_how_long_kernels_take(cuda: Cuda) -> None:
    made = cuda.run(
        """
import torch
torch.cuda.init()
side = torch.cuda.Stream()
events = [torch.cuda.Event(enable_timing=True) for _ in range(3)]
block = torch.ones(4, device="cuda")
torch.cuda.synchronize()
events[0].record()
for _ in range(4): block.add_(1)
events[1].record()
with torch.cuda.stream(side):
    side.wait_event(events[1])
    block.add_(1)
    events[2].record()
events[2].synchronize()
took = [events[0].elapsed_time(one) for one in events[1:]]
answer(after=events[2].query(), idle=side.query(), took=took)
""",
        CUDA_DOUBLE_KERNEL_US="50000",
    )
    assert made["after"] and made["idle"]
    assert made["took"][0] >= 199 and made["took"][1] >= made["took"][0] + 49


def test_kernels_and_calls_are_counted_however_a_process_ends(cuda: Cuda) -> None:
    folder = cuda.folder / "trace"
    process = cuda.start(
        """
import torch
x = torch.ones(300, 300, device="cuda")
for _ in range(5):
    y = x @ x
    y.relu_()
answer(pid=os.getpid())
sys.stdin.readline()
""",
        CUDA_DOUBLE_TRACE=str(folder),
    )
    pid = process.answer()["pid"]
    process.kill()
    counts = read_traces([folder / f"{pid}.trace"])
    assert counts["kernel"]["cublasSgemm"] == 5
    assert sum(count for name, count in counts["kernel"].items() if "elementwise_kernel" in name) >= 6
    assert counts["call"]["cudaMalloc"] >= 1
