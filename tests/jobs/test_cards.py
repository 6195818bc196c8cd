"""jobs/cards.py: names as NVML gives them find their card; unknown ones get the careful figures."""

from __future__ import annotations

import pytest

from jobs.cards import CATALOGUE, COMMON, card_for, check_prices, find_card, parse_price, price_of, read_card
from jobs.errors import UsageError
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
        (
            "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
            "RTX PRO 6000 Blackwell Max-Q Workstation Edition",
        ),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000 Blackwell Server Edition"),
        ("NVIDIA B200", "B200"),
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
        assert unknown.workspace_bytes >= card.workspace_bytes


def test_a_cpu_card_has_no_driver_but_a_heap() -> None:
    cpu = card_for("cpu", "cpu", 700 * MiB)
    assert (cpu.kind, cpu.memory_bytes, cpu.distributed_bytes) == ("cpu", 700 * MiB, 0)
    assert cpu.reserve(100 * MiB, adapted=True) > cpu.reserve(100 * MiB, adapted=False) > 0
    assert cpu.reserve(100_000 * MiB, adapted=False) == cpu.reserve_cap_bytes


def test_the_catalogue_names_each_card_once_with_its_source() -> None:
    assert len({card.name for card in CATALOGUE}) == len(CATALOGUE)
    assert all(card.source and card.memory_bytes >= 8 * GiB for card in CATALOGUE)
    # The driver keeps some of each card for itself: no job may be told that it fits there.
    assert all(0.003 < 1 - card.memory_bytes / card.total_bytes < 0.03 for card in CATALOGUE)


def test_every_card_of_the_issue_is_in_the_catalogue_by_its_short_name() -> None:
    asked = "rtx3090 rtx4090 rtx5090 a4000 a5000 a6000 rtx6000ada rtxpro6000 l4 l40s a10g a100-40gb a100-80gb h100"
    names = [*asked.split(), "h200", "b200"]
    assert [find_card(name).short for name in names] == names
    assert sorted(COMMON) == sorted(names)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("4090", "GeForce RTX 4090"),
        ("RTX 4090", "GeForce RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "GeForce RTX 4090"),
        ("L40s", "L40S"),
        ("rtx a6000", "RTX A6000"),
        ("A100", "A100-SXM4-80GB"),
        ("a100 40GB", "A100-SXM4-40GB"),
        (" h100 ", "H100 80GB HBM3"),
        ("rtx-6000-ada", "RTX 6000 Ada Generation"),
    ],
)
def test_people_need_not_spell_a_card_as_nvml_does(text: str, meant: str) -> None:
    assert find_card(text).name == meant


def test_every_name_in_the_catalogue_finds_its_own_card() -> None:
    for card in CATALOGUE:
        assert find_card(card.name) is card
        assert find_card(card.short) is card
        assert card_for("cuda", f"NVIDIA {card.name}", card.memory_bytes).flops == card.flops


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rtx4091", "did you mean rtx4090"),
        ("h10", "did you mean h100"),
        ("???", "it has t4, "),
        ("", "it has t4, "),
    ],
)
def test_an_unknown_card_names_what_comes_close(text: str, words: str) -> None:
    with pytest.raises(UsageError, match="is not in the catalogue") as error:
        find_card(text)
    assert words in str(error.value)


def test_geforce_cards_are_not_given_the_rate_with_half_precision_sums_or_sparsity() -> None:
    rate = {card.short: card.flops / 0.45e12 for card in CATALOGUE}
    assert rate["rtx4090"] == pytest.approx(165.2)
    assert rate["rtx5090"] == pytest.approx(209.5)
    assert rate["l40s"] == pytest.approx(362)
    assert rate["rtx6000ada"] == pytest.approx(364.2)
    assert rate["h100"] == pytest.approx(989)


def test_prices_go_by_any_name_of_the_card() -> None:
    prices = {"l40s": 0.9, "A100": 2.0, "NVIDIA Something New": 5, "cpu": 0.1}
    assert price_of(prices, "NVIDIA L40S") == 0.9
    assert price_of(prices, "NVIDIA A100-SXM4-80GB") == 2.0
    assert price_of(prices, "NVIDIA A100-SXM4-40GB") is None
    assert price_of(prices, "NVIDIA Something New") == 5
    assert price_of(prices, "cpu") == 0.1
    assert price_of({}, "NVIDIA L40S") is None


def test_a_price_is_read_and_a_bad_one_is_named() -> None:
    assert parse_price("RTX 4090=0.35") == ("RTX 4090", 0.35)
    for text in ("L40S", "L40S=much", "=3", "L40S=-1", "L40S=nan", "L40S=inf"):
        with pytest.raises(UsageError, match="--price"):
            parse_price(text)
    for value in ([], {"L40S": "0.9"}, {"L40S": True}, {"L40S": None}):
        with pytest.raises(UsageError, match=r"config\.json: prices"):
            check_prices(value, "config.json: prices")


def test_a_card_may_have_less_memory_than_its_type_but_not_more() -> None:
    assert read_card("h100:40GiB").memory_bytes == 40 * GiB
    assert read_card("l4:24GiB") == find_card("l4"), "as its maker counts: no more than there is"
    with pytest.raises(
        UsageError, match=r"'h100:900GiB' has more memory than there is on a H100 80GB HBM3: 79\.65 GiB"
    ):
        read_card("h100:900GiB")
