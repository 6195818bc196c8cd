"""The card catalogue: memory, bandwidth, arithmetic, what a process takes beside its tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from typing import Literal

from jobs.errors import UsageError
from jobs.units import GiB, MiB, gib, parse_size

CardKind = Literal["cuda", "cpu"]
# What a profile tells apart: cards older than Ampere have other attention kernels.
Traced = Literal["cuda", "cpu", "cuda.old"]
Allocator = Literal["", "expandable", "default"]  # of torch on CUDA; "": nothing is known of one

# Of the data sheet's figures, what fine-tuning through plain PyTorch reaches. Only ratios between rungs and
# cards matter for a choice; the next job's projected time comes from these until calibration has seen the
# card.
ARITHMETIC_SHARE = 0.45  # model FLOP/s utilisation of large dense layers in bfloat16
BANDWIDTH_SHARE = 0.8


@dataclass(frozen=True)
class Card:
    """One type of card.

    memory_bytes: what processes can have of it, contexts included, as a host reports it; total_bytes: all of it, as
    nvidia-smi shows it, of which the driver keeps the rest, 0: not known. bandwidth_bytes_s and flops: bytes and
    dense bfloat16 operations a second that training reaches; context_bytes: what the driver and libraries take on the
    card for one process, before any tensor; distributed_bytes: more of it when ranks talk to each other.
    workspace_bytes: of cuBLAS, for each thread that uses it; expandable: whether segments of torch's CUDA allocator can
    expand there. On a card with workspaces jobs/memory/allocator says what is held beside live tensors; else that is
    reserve_bytes, adapter_reserve_bytes more with LoRA, and reserve_share of the bytes that come and go outside the
    loss, at most reserve_cap_bytes of them. layer_s: seconds that the host takes to start one layer, forward or
    backward: no micro-batch is faster, however small; batch_s: that it takes beside the layers for each micro-batch
    (data loader, embedding, loss and its figures); step_s: for each optimizer step (clipping, update, callbacks). CUDA
    cards have launch_s instead: seconds for each kernel, of which jobs/memory/kernel_launches.py has the counts.
    short: what people call it on the command line; price: of an hour of one GPU, in whatever unit the operator
    thinks in, None when not set.
    """

    name: str
    memory_bytes: int
    bandwidth_bytes_s: float
    flops: float
    context_bytes: int
    source: str
    kind: CardKind = "cuda"
    distributed_bytes: int = 0
    workspace_bytes: int = 0
    reserve_bytes: int = 0
    adapter_reserve_bytes: int = 0
    reserve_share: float = 0.0
    reserve_cap_bytes: int | None = None
    layer_s: float = 0.0
    batch_s: float = 0.0
    step_s: float = 0.0
    launch_s: float = 0.0
    short: str = ""
    price: float | None = None
    expandable: bool = True
    total_bytes: int = 0

    @property
    def traced(self) -> Traced:
        """Which passes of a profile are this card's (workers/profiler/emulation/attention.py)."""
        old = self.name.removeprefix("NVIDIA ").startswith(("Tesla T4", "Tesla V100"))
        return "cuda.old" if old and self.kind == "cuda" else self.kind

    @property
    def allocator(self) -> Allocator:
        """How torch's CUDA allocator is set here, as jobs/memory/allocator has it; empty where nothing is known of
        one.
        """
        if not self.workspace_bytes:
            return ""
        return "expandable" if self.expandable else "default"

    def reserve(self, moving: float, adapted: bool) -> int:
        """Bytes held beyond live tensors where nothing is known of an allocator.

        moving: most that is live outside the loss at any time of the step; adapted: LoRA.
        """
        fixed = self.reserve_bytes + (self.adapter_reserve_bytes if adapted else 0)
        share = self.reserve_share * moving
        return round(
            fixed + (share if self.reserve_cap_bytes is None else min(share, self.reserve_cap_bytes))
        )


# Of cuBLAS, from torch's allocator (getChosenWorkspaceSize, aten/src/ATen/cuda/CublasHandlePool.cpp, torch 2.13):
# ":4096:2:16:8", and 32 MiB from Hopper on.
_WORKSPACE_BYTES, _HOPPER_WORKSPACE_BYTES = 2 * 4096 * 1024 + 8 * 16 * 1024, 32 * MiB
# What the host takes for each kernel that it launches, Python around it included: stated, not measured here. ms-swift
# 2.x on an A100, qwen-1.8b (24 layers), full, with every layer checkpointed, took 93 ms a micro-batch at 512 and at
# 1,024 tokens alike (modelscope/ms-swift@cdb169b78, docs/source_en/LLM/Benchmark.md), over the 3,981 launches that a
# llama of that depth is counted to take (jobs/memory/kernel_launches.py). docs/ladder.md has it beside other
# published rows.
_LAUNCH_S = 23.4e-6
_DISTRIBUTED_BYTES = round(1.4 * GiB)  # others report 1.3 to 1.5 GiB more when ranks talk to each other


def _cuda(
    name: str,
    short: str,
    memory_mib: int,
    usable_mib: int,
    gb_s: float,
    tflops: float,
    context_mib: int,
    source: str,
    hopper: bool = False,
) -> Card:
    return Card(
        name=name,
        short=short,
        memory_bytes=usable_mib * MiB,
        total_bytes=memory_mib * MiB,
        bandwidth_bytes_s=gb_s * 1e9 * BANDWIDTH_SHARE,
        flops=tflops * 1e12 * ARITHMETIC_SHARE,
        context_bytes=context_mib * MiB,
        source=source,
        distributed_bytes=_DISTRIBUTED_BYTES,
        workspace_bytes=_HOPPER_WORKSPACE_BYTES if hopper else _WORKSPACE_BYTES,
        launch_s=_LAUNCH_S,
    )


_SMI = "; memory: nvidia-smi"
_GA102 = "NVIDIA Ampere GA102 architecture whitepaper" + _SMI
_ADA = "NVIDIA Ada architecture whitepaper" + _SMI
_BLACKWELL = "NVIDIA RTX Blackwell architecture whitepaper" + _SMI
_PRO = "NVIDIA RTX Blackwell PRO architecture whitepaper" + _SMI
_SHEET = "NVIDIA data sheet of the card" + _SMI
_SPARSE = "NVIDIA data sheet of the card, half of its figure with sparsity" + _SMI
# Name as NVML gives it, short name, memory MiB, usable MiB, GB/s, dense bfloat16 TFLOP/s with float32 accumulation
# (float16 where a card has no bfloat16), context MiB. GeForce cards accumulate in float32 at half the rate of their
# professional twins: an RTX 4090 reaches 165 where an L40S reaches 362. Contexts are priors inside the 0.47 to 1.78 GiB
# that others report by card and library; not measured here. Usable is the "total capacity" of torch's out-of-memory
# messages that users of such cards report, to 0.02 GiB; it moves by some MiB with the driver.
CATALOGUE: tuple[Card, ...] = (
    _cuda("Tesla T4", "t4", 15360, 15095, 320, 65, 550, _SHEET),
    _cuda("Tesla V100-SXM2-16GB", "v100-16gb", 16384, 16151, 900, 125, 550, _SHEET),
    _cuda("Tesla V100-SXM2-32GB", "v100-32gb", 32768, 32501, 900, 125, 550, _SHEET),
    _cuda("GeForce RTX 3080", "rtx3080", 10240, 10010, 760, 59.5, 550, _GA102),
    _cuda("GeForce RTX 3090", "rtx3090", 24576, 24257, 936, 71, 550, _GA102),
    _cuda("GeForce RTX 4080", "rtx4080", 16376, 16076, 717, 97.5, 600, _ADA),
    _cuda("GeForce RTX 4090", "rtx4090", 24564, 24210, 1008, 165.2, 600, _ADA),
    _cuda("GeForce RTX 5090", "rtx5090", 32607, 32110, 1792, 209.5, 900, _BLACKWELL),
    _cuda("RTX A4000", "a4000", 16376, 16109, 448, 76.7, 550, _SPARSE),
    _cuda("RTX A5000", "a5000", 24564, 24248, 768, 111.1, 550, _SPARSE),
    _cuda("RTX A6000", "a6000", 49140, 48677, 768, 154.8, 550, _GA102),
    _cuda("RTX 6000 Ada Generation", "rtx6000ada", 49140, 48508, 960, 364.2, 600, _ADA),
    _cuda("RTX PRO 6000 Blackwell Workstation Edition", "rtxpro6000", 97887, 97248, 1792, 503.8, 900, _PRO),
    _cuda("RTX PRO 6000 Blackwell Server Edition", "rtxpro6000-server", 97887, 97248, 1597, 503.8, 900, _PRO),
    _cuda(
        "RTX PRO 6000 Blackwell Max-Q Workstation Edition",
        "rtxpro6000-maxq",
        97887,
        97248,
        1792,
        438.9,
        900,
        _PRO,
    ),
    _cuda("A10", "a10", 23028, 22589, 600, 125, 550, _SHEET),
    _cuda("A10G", "a10g", 23028, 22503, 600, 70, 550, _SHEET),
    _cuda("A30", "a30", 24576, 24062, 933, 165, 550, _SHEET),
    _cuda("A40", "a40", 46068, 45403, 696, 149.7, 550, _SHEET),
    _cuda("L4", "l4", 23034, 22563, 300, 121, 600, _SPARSE),
    _cuda("L40", "l40", 46068, 45458, 864, 181, 600, _SHEET),
    _cuda("L40S", "l40s", 46068, 45458, 864, 362, 600, _SHEET),
    _cuda("A100-PCIE-40GB", "a100-pcie-40gb", 40960, 40339, 1555, 312, 600, _SHEET),
    _cuda("A100-SXM4-40GB", "a100-40gb", 40960, 40339, 1555, 312, 600, _SHEET),
    _cuda("A100 80GB PCIe", "a100-pcie-80gb", 81920, 81051, 1935, 312, 600, _SHEET),
    _cuda("A100-SXM4-80GB", "a100-80gb", 81920, 81051, 2039, 312, 600, _SHEET),
    _cuda("H100 PCIe", "h100-pcie", 81559, 81008, 2039, 756, 900, _SPARSE, hopper=True),
    _cuda("H100 80GB HBM3", "h100", 81559, 81008, 3350, 989, 900, _SPARSE, hopper=True),
    _cuda("H100 NVL", "h100-nvl", 95830, 95354, 3938, 835, 900, _SPARSE, hopper=True),
    _cuda("H200", "h200", 143771, 143167, 4800, 989, 900, _SPARSE, hopper=True),
    _cuda("B200", "b200", 183359, 182642, 8000, 2250, 1000, _SPARSE, hopper=True),
)
# What a plan shows where nobody says which.
COMMON = (
    *("rtx3090", "rtx4090", "rtx5090", "a4000", "a5000", "a6000", "rtx6000ada", "rtxpro6000"),
    *("l4", "l40s", "a10g", "a100-40gb", "a100-80gb", "h100", "h200", "b200"),
)
# What people also call them. Of an A100 without its memory the larger is meant, as clouds do.
_ALSO = {
    "a100": "a100-80gb",
    "a100-40": "a100-40gb",
    "a100-80": "a100-80gb",
    "h100-sxm": "h100",
    "h100-80gb": "h100",
    "6000ada": "rtx6000ada",
    "pro6000": "rtxpro6000",
    "v100": "v100-16gb",
}
# A card that is not in the catalogue: the slowest of the common ones, with the largest context and
# workspaces.
_UNKNOWN = _cuda(
    "unknown",
    "",
    0,
    0,
    300,
    55,
    1800,
    "not in the catalogue: conservative figures for any CUDA card",
    hopper=True,
)

# A CPU card's limit counts private writable memory (RLIMIT_DATA), and a trainer has malloc map blocks of 1 MiB and
# more by themselves (workers/trainer/memory_meter.py). Measured on 2 cores with glibc 2.36: TRL runs of llama shapes
# (hidden 256 to 512, 4 to 8 layers, 256 tokens, full and LoRA, off and every layer, 1 to 4 micro-batches a step);
# VmData read every millisecond from outside, from after the imports on. Beyond the projected live bytes they took 71
# to 81 MiB where tensors are large, 173 MiB where they are under 1 MiB and stay in the heap: stacks of threads, data
# set, tokenizer, fragments. The figures below put the projected device bytes of all of them between 6 % under and 10
# % over, and the upper bound over every one. Three runs that the figures were not made from (qwen3 full, qwen2 and a
# very small llama with LoRA) came out 7, 7 and 24 % (44 MiB) over.
_CPU = Card(
    name="cpu",
    memory_bytes=0,
    bandwidth_bytes_s=10e9,  # one DDR4 channel's worth; nominal
    flops=5e10,  # two cores with AVX2, bfloat16 by way of float32; nominal
    context_bytes=80 * MiB,
    source="measured with small TRL runs; speed is nominal",
    kind="cpu",
    adapter_reserve_bytes=40 * MiB,
    reserve_share=0.3,
    reserve_cap_bytes=80 * MiB,
    # Of Llama shapes with 4 and 24 layers of 64 numbers and 8 tokens, one pass of one layer more took 0.5 ms on one
    # thread and 0.9 ms on two: what a small micro-batch takes however short its rows are.
    layer_s=5e-4,
    # Full steps of Llama shapes with 1 to 16 layers of 32 numbers and 1 to 4 micro-batches, one thread, nothing else
    # running: 3.7 ms for one layer and one micro-batch, 12.8 for one and four, 9.7 a micro-batch for eight, 18.8 for
    # sixteen. With the layers' launches, these two put all of them within 10 %; LoRA's were up to twice as long. A
    # machine that is shared takes several times as long, which a fleet learns from its own attempts.
    batch_s=2.3e-3,
    step_s=7e-4,
)


_ROOM_BYTES = 512 * MiB


def roomy(memory_bytes: int, upper_bytes: int) -> bool:
    """Whether a CPU card has so much more than a job is projected to stay under that malloc may keep what is freed.

    What such a job is seen to take is what malloc keeps, more with each step: no measure of what it needs
    (workers/trainer/memory_meter.py). upper_bytes 0: nobody knows.
    """
    return upper_bytes > 0 and memory_bytes >= 2 * upper_bytes + _ROOM_BYTES


@lru_cache(maxsize=1024)
def card_for(kind: str, name: str, memory_bytes: int) -> Card:
    """The catalogue's card for a name as NVML gives it, with the memory that the host really reports.

    An unknown name gets conservative figures; kind "cpu" the CPU card.
    """
    if kind == "cpu":
        return replace(_CPU, name=name, memory_bytes=memory_bytes)
    return replace(_known(name) or _UNKNOWN, name=name, memory_bytes=memory_bytes)


def _known(name: str) -> Card | None:
    plain = name.removeprefix("NVIDIA ")
    for card in CATALOGUE:
        if card.name == plain:
            return card
    words = set(plain.replace("-", " ").split()) | set(plain.split())
    named = [card for card in CATALOGUE if set(card.name.split()) <= words]
    return max(named, key=lambda card: len(card.name), default=None)


def find_card(text: str) -> Card:
    """The catalogue's card for what a person calls it: rtx4090, 4090, L40S, "A100 40GB", H100.

    Raises UsageError naming what comes close.
    """
    names = _names()
    wanted = _plain(text)
    if wanted in names:
        return names[wanted]
    close = list(
        dict.fromkeys(names[name].short for name in get_close_matches(wanted, names, n=5, cutoff=0.5))
    )
    known = ", ".join(card.short for card in CATALOGUE)
    hint = f"did you mean {' or '.join(close[:3])}?" if close else f"it has {known}"
    raise UsageError(f"card {text.strip()!r} is not in the catalogue; {hint}")


NOMINAL = 1.1  # makers count more than a driver shows: an L4 of "24 GB" has 22.49 GiB


def read_card(text: str) -> Card:
    """A card that a plan is asked for: find_card's names, "cpu:2GiB", or "h100:40GiB" for less than all of one.

    Raises UsageError.
    """
    name, colon, size = text.partition(":")
    if not colon and name.strip().lower() == "cpu":
        raise UsageError("card cpu has no memory of its own; write how much, such as cpu:2GiB")
    if not colon:
        return find_card(name)
    try:
        memory_bytes = parse_size(size)
    except ValueError as error:
        raise UsageError(f"card {text.strip()!r} is {error}") from None
    if memory_bytes <= 0:
        raise UsageError(f"card {text.strip()!r} has no memory; write a size such as {name}:24GiB")
    if name.strip().lower() == "cpu":
        return card_for("cpu", "cpu", memory_bytes)
    card = find_card(name)
    if memory_bytes > card.total_bytes * NOMINAL:
        raise UsageError(
            f"card {text.strip()!r} has more memory than there is on a {card.name}: {gib(card.total_bytes)}"
        )
    return replace(card, memory_bytes=min(memory_bytes, card.memory_bytes))


def check_prices(value: object, where: str = "prices") -> dict[str, float]:
    """A mapping of card names to prices of a GPU hour. Raises UsageError naming the entry that is none."""
    if not isinstance(value, Mapping):
        raise UsageError(f'{where} is not a mapping; write one such as {{"L40S": 0.9, "H100": 2.5}}')
    made: dict[str, float] = {}
    for name, price in value.items():
        number = not isinstance(price, bool) and isinstance(price, (int, float))
        if not _plain(str(name)) or not number or not 0 <= price < math.inf:
            raise UsageError(
                f"{where} has {name}={price!r}; a price is a number from 0, of an hour of one GPU: L40S=0.9"
            )
        made[str(name)] = float(price)
    return made


def parse_price(text: str) -> tuple[str, float]:
    """Card and price of "L40S=0.9". Raises UsageError."""
    name, _, given = text.rpartition("=")
    try:
        return next(iter(check_prices({name: float(given)}, "--price").items()))
    except ValueError:
        raise UsageError(f"--price {text!r} is no price; write CARD=PRICE, such as L40S=0.9") from None


def price_of(prices: Mapping[str, float], name: str) -> float | None:
    """The price of a GPU hour on a card with this name (NVML's, or "cpu"); None without one.

    prices: by any name that find_card takes, or by the card's own.
    """
    known = _known(name)
    names = {_plain(name), *([_plain(known.name), _plain(known.short)] if known else [])}
    for key, price in prices.items():
        plain = _plain(key)
        if plain in names or (known is not None and _names().get(plain) is known):
            return price
    return None


@lru_cache(maxsize=1)
def _names() -> dict[str, Card]:
    """Every name a catalogue card goes by, without case, blanks and dashes."""
    made = {_plain(name): card for card in CATALOGUE for name in (card.name, card.short)}
    made |= {_plain(card.short.removeprefix("rtx")): card for card in CATALOGUE if card.short[3:4].isdigit()}
    made |= {f"rtx{_plain(card.short)}": card for card in CATALOGUE if card.name.startswith("RTX A")}
    return made | {_plain(also): made[_plain(short)] for also, short in _ALSO.items()}


def _plain(name: str) -> str:
    kept = "".join(char for char in name.lower() if char.isalnum())
    for prefix in ("nvidia", "geforce", "tesla"):
        kept = kept.removeprefix(prefix)
    return kept
