"""A CPU card's memory: what is measured is what its limit counts. Each in a process of its own, as limits are."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from jobs.messages.reports import GpuInfo
from jobs.units import MiB
from tests.workers.builders import TINY, answer, make_assignment, question, write_rows
from workers.trainer.memory_meter import card_limit, set_threads

ROOT = Path(__file__).parents[3]
STACK = 8 * MiB  # of the thread that watches
BEGIN = """
import torch
from jobs.messages.reports import GpuInfo
from workers.trainer.memory_meter import Meter, card_limit
MiB = 2**20
torch.set_num_threads(1)
card = GpuInfo(uuid="cpu-test-0", index=0, kind="cpu", name="cpu", memory_bytes=256 * MiB)
def tensor(mebibytes):
    return torch.zeros(mebibytes * MiB, dtype=torch.uint8)
meter = Meter(card)
"""


def told(code: str) -> list[int]:
    """What a process prints that measures a CPU card of 256 MiB: one whole number a line."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


def test_the_peak_is_kept_when_its_memory_is_gone() -> None:
    code = """
import time
begin = meter.read()
held = tensor(100)
time.sleep(0.2)
del held
held = tensor(20)
peaks = meter.read()
print(begin.device_bytes, peaks.device_bytes, int(peaks.allocated_bytes is None), meter.baseline_bytes)
"""
    begin, peak, no_torch_figures, baseline = told(code)
    assert begin <= STACK + MiB
    assert 100 * MiB <= peak <= 100 * MiB + STACK + 4 * MiB
    assert no_torch_figures and baseline > 100 * MiB


def test_an_allocation_past_the_cards_memory_fails_and_the_peak_stays_below() -> None:
    code = """
held = []
with card_limit(card):
    try:
        while True:
            held.append(tensor(4))
    except RuntimeError as error:
        print(int("can't allocate memory" in str(error)))
    print(len(held) * 4 * MiB, meter.read().device_bytes)
held.append(tensor(300))  # the limit is lifted for the outcome
print(meter.read().device_bytes)
"""
    said_so, given, peak, after = told(code)
    assert said_so
    assert 256 * MiB - 12 * MiB <= given <= 256 * MiB
    assert given - MiB <= peak <= 256 * MiB + STACK
    assert after > 500 * MiB


def test_what_is_done_apart_counts_neither_for_the_job_nor_against_its_limit() -> None:
    code = """
with card_limit(card):
    with meter.apart():
        kept = tensor(60)
        passing = tensor(40)
        del passing
    held = tensor(200)
    peak = meter.read().device_bytes
    try:
        tensor(60)
    except RuntimeError:
        print(peak)
"""
    (peak,) = told(code)
    assert 200 * MiB <= peak <= 200 * MiB + STACK + 4 * MiB


@pytest.mark.parametrize(
    ("memory_mib", "least_mib", "most_mib"),
    [pytest.param(256, 0, 1, id="tight"), pytest.param(4096, 8, 96, id="room to spare")],
)
def test_what_is_freed_is_free_again_where_the_card_is_tight(
    memory_mib: int, least_mib: int, most_mib: int
) -> None:
    """Left alone, as on a card with room, glibc keeps freed blocks of up to 32 MiB from the second time on."""
    code = f"""
from workers.trainer.memory_meter import status_bytes
with card_limit(card.model_copy(update={{"memory_bytes": {memory_mib} * MiB}}), 256 * MiB):
    before = status_bytes("VmData")
    for _ in range(4):
        held = [tensor(size) for size in (24, 5, 17, 2)]
        del held
    print(status_bytes("VmData") - before)
"""
    (kept,) = told(code)
    assert least_mib * MiB <= kept <= most_mib * MiB


def test_products_of_ever_new_shapes_leave_little_behind() -> None:
    """As batches of varying length bring them. Left alone, oneDNN keeps 122 MiB of these hundred."""
    code = """
from torch.nn.functional import linear
from workers.trainer.memory_meter import status_bytes
weight = torch.ones(2048, 512, dtype=torch.bfloat16)
with card_limit(card):
    linear(torch.ones(100, 512, dtype=torch.bfloat16), weight)
    before = status_bytes("VmData")
    for rows in range(200, 800, 6):
        linear(torch.ones(rows, 512, dtype=torch.bfloat16), weight)
    print(status_bytes("VmData") - before)
"""
    (kept,) = told(code)
    assert kept < 80 * MiB


def test_a_cuda_card_has_its_own_limit() -> None:
    card = GpuInfo(uuid="GPU-0", index=0, kind="cuda", name="a card", memory_bytes=MiB)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with card_limit(card):
        assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.mark.parametrize(
    ("asked", "ranks", "threads"),
    [("", 1, 6), ("", 2, 3), ("", 4, 1), ("", 8, 1), ("5", 1, 5), ("5", 2, 5), ("0", 2, 3), ("many", 1, 6)],
)
def test_threads(asked: str, ranks: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranks of a gang share torch's default, here 6; what the operator says is for each of them."""
    before = torch.get_num_threads()
    monkeypatch.setitem(os.environ, "TUNEYARD_CPU_THREADS", asked)
    torch.set_num_threads(6)
    try:
        set_threads(ranks)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_rows_of_many_lengths_leave_nothing_behind_on_a_tight_card() -> None:
    """Two libraries keep what they made ready for each shape, a thousand of them (workers/trainer/memory_meter.py)."""
    code = """
from workers.trainer.memory_meter import status_bytes
net = torch.nn.Sequential(
    torch.nn.Linear(256, 768, dtype=torch.bfloat16), torch.nn.Linear(768, 256, dtype=torch.bfloat16)
)
with card_limit(card, 134 * MiB):
    for length in range(60, 100):
        rows = torch.ones(length, 256, dtype=torch.bfloat16, requires_grad=True)
        net(rows).float().sum().backward()
        if length in (69, 99):
            print(status_bytes("VmData"))
"""
    early, late = told(code)
    assert late - early < 8 * MiB  # 76 where each shape is kept


TRAINS = """
import sys
from pathlib import Path
from transformers import TrainerCallback
import workers.trainer.train
from jobs.messages.reports import Assignment
from workers.attempt_folder import AttemptFolder
from workers.trainer.memory_meter import status_bytes

class Look(TrainerCallback):
    def on_save(self, args, state, control, **kwargs):
        print("saved", state.global_step, status_bytes("VmData"), flush=True)

build = workers.trainer.train.build_trainer
def built(*args, **kwargs):
    trainer = build(*args, **kwargs)
    trainer.add_callback(Look())
    return trainer
workers.trainer.train.build_trainer = built
here = Path(sys.argv[1])
assignment = Assignment.model_validate_json((here / "assignment.json").read_text())
folder = AttemptFolder(here / "home", 1)
assert folder.claim(assignment)
print(workers.trainer.train.run_attempt(assignment, folder, here / "home", here / "out").outcome)
"""


def test_training_takes_no_more_from_checkpoint_to_checkpoint(tmp_path: Path, tokenizer: Path) -> None:
    """LoRA in bfloat16 on rows of many lengths, a checkpoint every 2 steps, a card that is not roomy."""
    rows = [{"prompt": question(i), "completion": answer(i) * (1 + i * 7 % 12)} for i in range(64)]
    assignment = make_assignment(
        write_rows(tmp_path / "varied.jsonl", rows),
        tokenizer,
        memory_bytes=300 * MiB,
        model={"config": {**TINY, "hidden_size": 128, "intermediate_size": 384}, "dtype": "bfloat16"},
        method={"kind": "lora", "rank": 4},
        training={"steps": 14, "sequence_length": 128, "checkpoint_steps": 2},
    ).model_copy(update={"upper_bytes": 134 * MiB})
    (tmp_path / "assignment.json").write_text(assignment.model_dump_json())
    env = {**os.environ, "TUNEYARD_CPU_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", TRAINS, str(tmp_path)], cwd=ROOT, env=env, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert lines and lines[-1] == "succeeded", done.stderr
    said = [line.split() for line in lines if line.startswith("saved ")]
    saved = {int(step): int(size) for _, step, size in said}
    assert saved[max(saved)] - saved[4] < 16 * MiB, saved
