"""jobs/cards.py: names as NVML gives them find their card; unknown ones get the careful figures."""

from __future__ import annotations

import pytest

from jobs.cards import CATALOGUE, card_for
from jobs.units import GiB, MiB


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("NVIDIA GeForce RTX 3090", "GeForce RTX 3090"),
        ("NVIDIA GeForce RTX 3090 Ti", "GeForce RTX 3090"),
        ("NVIDIA GeForce RTX 4090 D", "GeForce RTX 4090"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40", "L40"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA RTX A6000", "RTX A6000"),
        ("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"),
        ("NVIDIA A100 80GB PCIe", "A100 80GB PCIe"),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", "A100-SXM4-80GB"),
        ("NVIDIA H100 80GB HBM3", "H100 80GB HBM3"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H200", "H200"),
        ("Tesla T4", "Tesla T4"),
    ],
)
def test_a_name_finds_its_card_and_keeps_the_hosts_memory(name: str, meant: str) -> None:
    expected = next(card for card in CATALOGUE if card.name == meant)
    found = card_for("cuda", name, 11 * GiB)
    assert (found.flops, found.bandwidth_bytes_s) == (expected.flops, expected.bandwidth_bytes_s)
    assert (found.name, found.memory_bytes, found.kind) == (name, 11 * GiB, "cuda")


def test_an_unknown_card_is_no_faster_and_no_leaner_than_any_known_one() -> None:
    unknown = card_for("cuda", "NVIDIA Something New", 64 * GiB)
    assert unknown.memory_bytes == 64 * GiB
    for card in CATALOGUE:
        assert unknown.context_bytes >= card.context_bytes
        assert unknown.flops <= card.flops
        assert unknown.reserve_bytes >= card.reserve_bytes


def test_a_cpu_card_has_no_driver_but_a_heap() -> None:
    cpu = card_for("cpu", "cpu", 700 * MiB)
    assert (cpu.kind, cpu.memory_bytes, cpu.distributed_bytes) == ("cpu", 700 * MiB, 0)
    assert cpu.reserve(100 * MiB, adapted=True) > cpu.reserve(100 * MiB, adapted=False) > 0
    assert cpu.reserve(100_000 * MiB, adapted=False) == cpu.reserve_cap_bytes


def test_the_catalogue_names_each_card_once_with_its_source() -> None:
    assert len({card.name for card in CATALOGUE}) == len(CATALOGUE)
    assert all(card.source and card.memory_bytes >= 8 * GiB for card in CATALOGUE)
