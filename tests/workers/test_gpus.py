"""Cards: NVML through the real pynvml on a stub library, and CPU cards on a real process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from jobs.units import GiB, MiB
from tests.stub_nvml import StubSampler, card_line, compile_stub, write_cards
from workers.gpus import CpuCards


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_stub(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "cards"


def test_every_reading_arrives_in_its_unit(library: Path, state: Path) -> None:
    write_cards(state, card_line("GPU-0", pids="4242:1048576,4243:2097152", used=5 * GiB))
    with StubSampler(library, state) as sampler:
        seen = sampler.sample(12.5)
    assert seen["infos"]["GPU-0"] == {
        "uuid": "GPU-0",
        "index": 0,
        "kind": "cuda",
        "name": "Stub H100",
        "memory_bytes": 80 * GiB - 512 * MiB,  # without what the driver keeps
        "fault": None,
        "expandable": True,  # as far as NVML knows
    }
    assert seen["samples"]["GPU-0"] == {
        "uuid": "GPU-0",
        "ts": 12.5,
        "memory_used_bytes": 5 * GiB,  # without the driver's reserve
        "utilization": 0.97,
        "power_w": 350.0,
        "power_limit_w": 700.0,
        "temperature_c": 61,
        "sm_clock_mhz": 1755,
        "memory_clock_mhz": 2619,
        "energy_j": 123_456.789,
        "throttle": 4,
        "ecc_corrected": 3,
        "ecc_uncorrected": 0,
        "xids": None,  # its events are not read
        "process_memory": {"4242": MiB, "4243": 2 * MiB},
        "fault": None,
    }


def test_memory_that_moves_is_followed(library: Path, state: Path) -> None:
    seen = []
    write_cards(state, card_line("GPU-0"), card_line("GPU-1"))
    with StubSampler(library, state) as sampler:
        for used in (0, 7 * GiB, 79 * GiB, 3 * GiB):
            write_cards(state, card_line("GPU-0"), card_line("GPU-1", used=used))
            samples = sampler.sample(0)["samples"]
            seen.append((samples["GPU-0"]["memory_used_bytes"], samples["GPU-1"]["memory_used_bytes"]))
    assert seen == [(GiB, 0), (GiB, 7 * GiB), (GiB, 79 * GiB), (GiB, 3 * GiB)]


def test_a_reading_that_a_card_lacks_is_none_and_no_fault(library: Path, state: Path) -> None:
    write_cards(state, card_line("GPU-0"), card_line("GPU-1", without="ecc,energy,clocks"))
    with StubSampler(library, state) as sampler:
        seen = sampler.sample(0)
    plain = seen["samples"]["GPU-1"]
    lacking = {key for key, value in plain.items() if value is None}
    assert lacking == {
        *("ecc_corrected", "ecc_uncorrected", "energy_j", "sm_clock_mhz", "memory_clock_mhz"),
        *("fault", "xids"),
    }
    plainly = [value for key, value in seen["samples"]["GPU-0"].items() if key not in ("fault", "xids")]
    assert None not in plainly


def test_an_older_driver_is_asked_in_its_own_words(library: Path, state: Path) -> None:
    write_cards(state, card_line("GPU-0", without="memory_v2,event_reasons", throttle=8))
    with StubSampler(library, state) as sampler:
        seen = sampler.sample(0)
        sample = seen["samples"]["GPU-0"]
    assert sample["throttle"] == 8
    assert sample["memory_used_bytes"] == GiB + 512 * MiB  # that call counts the driver's reserve
    assert seen["infos"]["GPU-0"]["memory_bytes"] == 80 * GiB


def test_a_lost_card_is_marked_and_the_others_go_on(library: Path, state: Path) -> None:
    cards = [card_line("GPU-0"), card_line("GPU-1"), card_line("GPU-2")]
    with StubSampler(library, state) as sampler:
        write_cards(state, *cards)
        assert sampler.sample(1)["infos"]["GPU-1"]["fault"] is None
        write_cards(state, cards[0], card_line("GPU-1", lost=1), cards[2])
        lost = sampler.sample(2)
        write_cards(state, *cards)
        back = sampler.sample(3)
    assert lost["infos"]["GPU-1"]["fault"] == lost["samples"]["GPU-1"]["fault"] == "NVML: GPU is lost"
    assert lost["samples"]["GPU-1"]["memory_used_bytes"] is None
    assert [lost["samples"][uuid]["memory_used_bytes"] for uuid in ("GPU-0", "GPU-2")] == [GiB, GiB]
    assert back["infos"]["GPU-1"]["fault"] is None
    assert back["samples"]["GPU-1"]["memory_used_bytes"] == GiB


def test_a_card_lost_from_the_start_appears_when_it_answers(library: Path, state: Path) -> None:
    with StubSampler(library, state) as sampler:
        write_cards(state, card_line("GPU-0", lost=1), card_line("GPU-1"))
        assert list(sampler.sample(1)["infos"]) == ["GPU-1"]
        write_cards(state, card_line("GPU-0"), card_line("GPU-1"))
        assert list(sampler.sample(2)["infos"]) == ["GPU-0", "GPU-1"]


def test_a_reloaded_driver_is_taken_up_again(library: Path, state: Path) -> None:
    write_cards(state, card_line("GPU-0"))
    with StubSampler(library, state) as sampler:
        sampler.sample(1)
        state.unlink()
        assert sampler.sample(2)["infos"]["GPU-0"]["fault"] == "NVML: Driver Not Loaded"
        write_cards(state, card_line("GPU-0", used=9))
        sampler.sample(3)  # NVML is initialised again, at the latest here
        assert sampler.sample(4)["samples"]["GPU-0"]["memory_used_bytes"] == 9


def test_a_card_split_by_mig_says_that_it_cant_be_used(library: Path, state: Path) -> None:
    write_cards(state, card_line("GPU-0", mig=1))
    with StubSampler(library, state) as sampler:
        assert "MIG is enabled" in sampler.sample(1)["infos"]["GPU-0"]["fault"]


def test_without_a_driver_the_message_says_what_to_do(library: Path, state: Path) -> None:
    with StubSampler(library, state) as sampler:
        message = sampler.sample(1)["error"]
    assert "Driver Not Loaded" in message and "--cpu-cards" in message


def test_cpu_cards_have_the_sizes_asked_for() -> None:
    cards = CpuCards("alpha", [700 * MiB, 2 * GiB])
    infos = cards.infos()
    assert [(i.uuid, i.index, i.kind, i.memory_bytes) for i in infos] == [
        ("cpu-alpha-0", 0, "cpu", 700 * MiB),
        ("cpu-alpha-1", 1, "cpu", 2 * GiB),
    ]
    samples = cards.sample(5.0)
    assert [(s.ts, s.memory_used_bytes, s.utilization) for s in samples] == [(5.0, 0, 0.0)] * 2


def test_a_cpu_card_shows_what_its_trainer_holds_above_the_baseline() -> None:
    script = """
import sys
print("ready", flush=True)
sys.stdin.readline()
held = bytearray(b"x") * (64 * 2**20)
print("held", flush=True)
while True:
    pass
"""
    trainer = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert trainer.stdin and trainer.stdout
        trainer.stdout.readline()
        baseline = psutil.Process(trainer.pid).memory_info().rss
        cards = CpuCards("alpha", [GiB, GiB])
        cards.assign("cpu-alpha-1", {trainer.pid: baseline})
        trainer.stdin.write("\n")
        trainer.stdin.flush()
        trainer.stdout.readline()
        time.sleep(0.5)
        idle, busy = cards.sample(0)
        assert idle.memory_used_bytes == 0
        assert busy.memory_used_bytes == pytest.approx(64 * MiB, rel=0.05)
        assert busy.process_memory == {trainer.pid: pytest.approx(baseline + 64 * MiB, rel=0.05)}
        assert busy.utilization is not None
        assert 0.1 / (psutil.cpu_count() or 1) < busy.utilization <= 1.0  # it spins on one core
    finally:
        trainer.kill()
        trainer.wait()
    assert [sample.memory_used_bytes for sample in cards.sample(1)] == [0, 0]
