"""Cards by name and size, to NVML and CUDA; names and sizes that are none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.cards import CATALOGUE
from jobs.errors import UsageError
from jobs.units import GiB, MiB
from tests.cuda_double.processes import REPOSITORY, Cuda
from workers.cuda_double.cards import FIGURES, read_cards

SEEN = """
import json, pynvml
pynvml.nvmlInit()
made = []
for index in range(pynvml.nvmlDeviceGetCount()):
    card = pynvml.nvmlDeviceGetHandleByIndex(index)
    info = pynvml.nvmlDeviceGetMemoryInfo(card, version=pynvml.nvmlMemory_v2)
    made.append([pynvml.nvmlDeviceGetUUID(card), pynvml.nvmlDeviceGetName(card), info.total, info.reserved, info.used])
print(json.dumps(made))
"""


def seen(nvml: Path, **given: str) -> list[list[Any]]:
    """What NVML shows: UUID, name, total, reserved and used bytes of each card."""
    done = nvml_run(nvml, **given)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert isinstance(made, list)
    return made


def nvml_run(nvml: Path, **given: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(nvml), **given}
    return subprocess.run(
        [sys.executable, "-c", SEEN], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )


def test_every_card_of_the_catalogue_has_its_figures(nvml: Path) -> None:
    assert FIGURES.keys() == {card.short for card in CATALOGUE}
    for begin in range(0, len(CATALOGUE), 16):
        some = CATALOGUE[begin : begin + 16]
        cards = seen(nvml, CUDA_DOUBLE_CARDS=",".join(card.short for card in some))
        assert [card[1] for card in cards] == [f"NVIDIA {card.name}" for card in some]
        assert [card[2] for card in cards] == [card.total_bytes for card in some]
        assert [card[2] - card[3] for card in cards] == [card.memory_bytes for card in some]
        assert all(0.003 * card[2] < card[3] < 0.03 * card[2] for card in cards)
        assert len({card[0] for card in cards}) == len(some)


def test_a_size_is_what_processes_can_have(nvml: Path) -> None:
    assert [card[2:] for card in seen(nvml, CUDA_DOUBLE_CARDS="rtx4090:20.5GiB,h100:700MiB,t4:65536B")] == [
        [round(20.5 * GiB), 0, 0],
        [700 * MiB, 0, 0],
        [65536, 0, 0],
    ]


def test_hosts_have_cards_of_their_own(nvml: Path, tmp_path: Path) -> None:
    one, again, other = (
        seen(
            nvml,
            CUDA_DOUBLE_CARDS="a100,a100".replace("a100", "a100-80gb"),
            CUDA_DOUBLE_LEDGER=str(tmp_path / name),
        )
        for name in ("one", "one", "other")
    )
    assert one == again
    assert len({card[0] for card in one + other}) == 4


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ("rtx9999", "CUDA_DOUBLE_CARDS has rtx9999, which jobs/cards.py lacks"),
        ("rtx4090:20", "CUDA_DOUBLE_CARDS has rtx4090:20, whose size is none"),
        ("rtx4090:0GiB", "CUDA_DOUBLE_CARDS has rtx4090:0GiB, whose size is none"),
        ("rtx4090:-1GiB", "CUDA_DOUBLE_CARDS has rtx4090:-1GiB, whose size is none"),
        (",".join(["t4"] * 17), "CUDA_DOUBLE_CARDS has more than 16 cards"),
    ],
)
def test_the_library_ends_a_process_that_asks_for_no_card(nvml: Path, cards: str, words: str) -> None:
    done = nvml_run(nvml, CUDA_DOUBLE_CARDS=cards)
    assert done.returncode == 70 and words in done.stderr


def test_no_cards_are_a_driver_that_is_not_loaded(nvml: Path) -> None:
    assert "Driver Not Loaded" in nvml_run(nvml).stderr


def test_a_ledger_is_of_the_same_cards(nvml: Path, tmp_path: Path) -> None:
    ledger = str(tmp_path / "ledger")
    seen(nvml, CUDA_DOUBLE_CARDS="t4", CUDA_DOUBLE_LEDGER=ledger)
    done = nvml_run(nvml, CUDA_DOUBLE_CARDS="l4", CUDA_DOUBLE_LEDGER=ledger)
    assert done.returncode == 70 and "is of other cards (t4) than CUDA_DOUBLE_CARDS (l4)" in done.stderr
    assert nvml_run(nvml, CUDA_DOUBLE_CARDS="t4", CUDA_DOUBLE_LEDGER="/nowhere/ledger").returncode == 70


def test_over_a_real_driver_only_who_insists(nvml: Path, tmp_path: Path) -> None:
    version = tmp_path / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.touch()
    done = nvml_run(nvml, CUDA_DOUBLE_CARDS="t4", CUDA_DOUBLE_ROOT=str(tmp_path))
    assert done.returncode == 70 and "an NVIDIA driver is loaded here" in done.stderr
    assert "CUDA_DOUBLE_FORCE=1" in done.stderr
    assert seen(nvml, CUDA_DOUBLE_CARDS="t4", CUDA_DOUBLE_ROOT=str(tmp_path), CUDA_DOUBLE_FORCE="1")


def test_people_may_write_other_names() -> None:
    assert read_cards("4090, A100-80:20GiB") == f"rtx4090,a100-80gb:{20 * GiB}B"
    with pytest.raises(UsageError, match="did you mean"):
        read_cards("rtx4091")
    with pytest.raises(UsageError, match="not a size"):
        read_cards("rtx4090:20")
    with pytest.raises(UsageError, match="no memory"):
        read_cards("rtx4090:0GiB")
    with pytest.raises(UsageError, match="no cards were named"):
        read_cards(" , ")


def test_a_process_sees_the_cards_that_it_is_given(cuda: Cuda, nvml: Path) -> None:
    cuda.cards = "rtx4090,a100-80gb:20GiB,h100"
    ledger = str(cuda.folder / "ledger")
    variables = cuda.variables()
    uuids = [
        card[0]
        for card in seen(nvml, CUDA_DOUBLE_CARDS=variables["CUDA_DOUBLE_CARDS"], CUDA_DOUBLE_LEDGER=ledger)
    ]
    code = """
import ctypes
runtime, made = ctypes.CDLL("libcudart.so.13"), []
count, value = ctypes.c_int(), ctypes.c_int()
runtime.cudaGetDeviceCount(ctypes.byref(count))
for ordinal in range(count.value):
    runtime.cudaDeviceGetAttribute(ctypes.byref(value), 75, ordinal)  # compute capability, major
    made.append(value.value)
answer(made=made)
"""
    for visible, majors in [
        (",".join([uuids[2], uuids[0]]), [9, 8]),
        (uuids[2][:-1], []),  # of three cards: what it begins with is no name
        ("2,0", [9, 8]),
        ("1,7,0", [8]),
        ("1,1", []),
        ("", []),
        ("-1", []),
        ("GPU-nonsense", []),
    ]:
        assert cuda.run(code, CUDA_VISIBLE_DEVICES=visible)["made"] == majors, visible
