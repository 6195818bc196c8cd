"""The card catalogue: memory as NVML reports it, bandwidth, arithmetic, what a process takes beside its tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jobs.profile import CardKind
from jobs.units import GiB, MiB

# Of the data sheet's figures, what fine-tuning through plain PyTorch reaches. Only ratios between rungs and
# cards matter for a choice; the next job's projected time comes from these until calibration has seen the
# card.
ARITHMETIC_SHARE = 0.45  # model FLOP/s utilisation of large dense layers in bfloat16
BANDWIDTH_SHARE = 0.8


@dataclass(frozen=True)
class Card:
    """One type of card.

    memory_bytes: all of it, as NVML reports it; bandwidth_bytes_s and flops: bytes and dense bfloat16
    operations a second that training reaches; context_bytes: what the driver and libraries take on the card
    for one process, before any tensor; distributed_bytes: more of it when ranks talk to each other. What the
    allocator holds beyond live tensors is reserve_bytes, adapter_reserve_bytes more with LoRA, and reserve_share
    of the bytes that come and go outside the loss, at most reserve_cap_bytes of them.
    """

    name: str
    memory_bytes: int
    bandwidth_bytes_s: float
    flops: float
    context_bytes: int
    source: str
    kind: CardKind = "cuda"
    distributed_bytes: int = 0
    reserve_bytes: int = 0
    adapter_reserve_bytes: int = 0
    reserve_share: float = 0.0
    reserve_cap_bytes: int | None = None

    def reserve(self, moving: float, adapted: bool) -> int:
        """Bytes the allocator holds beyond live tensors.

        moving: most that is live outside the loss at any time of the step; adapted: LoRA.
        """
        fixed = self.reserve_bytes + (self.adapter_reserve_bytes if adapted else 0)
        share = self.reserve_share * moving
        return round(
            fixed + (share if self.reserve_cap_bytes is None else min(share, self.reserve_cap_bytes))
        )


# torch's CUDA allocator takes segments of 2 MiB and 20 MiB (c10/core/AllocatorConfig.h), and cuBLAS a
# workspace for each of the two threads that use it, 32 MiB on Hopper and later, some 8 MiB before
# (aten/src/ATen/cuda/CUDABlas.cpp). The share for fragmentation is a prior with no measurement behind it;
# calibration replaces it.
_SEGMENTS_BYTES = 2 * 20 * MiB + 2 * MiB
_CUDA_SHARE = 0.04
_DISTRIBUTED_BYTES = round(1.4 * GiB)  # others report 1.3 to 1.5 GiB more when ranks talk to each other


def _cuda(
    name: str,
    memory_mib: int,
    gb_s: float,
    tflops: float,
    context_mib: int,
    source: str,
    hopper: bool = False,
) -> Card:
    return Card(
        name=name,
        memory_bytes=memory_mib * MiB,
        bandwidth_bytes_s=gb_s * 1e9 * BANDWIDTH_SHARE,
        flops=tflops * 1e12 * ARITHMETIC_SHARE,
        context_bytes=context_mib * MiB,
        source=source,
        distributed_bytes=_DISTRIBUTED_BYTES,
        reserve_bytes=_SEGMENTS_BYTES + 2 * (32 if hopper else 9) * MiB,
        reserve_share=_CUDA_SHARE,
    )


_SHEET = "NVIDIA data sheet; memory as nvidia-smi shows it"
# memory MiB, GB/s, dense bfloat16 TFLOP/s with float32 accumulation (float16 where a card has no bfloat16),
# context MiB. Contexts are priors inside the 0.47 to 1.78 GiB that others report by card and library; not
# measured here.
CATALOGUE: tuple[Card, ...] = (
    _cuda("Tesla T4", 15360, 320, 65, 550, _SHEET),
    _cuda("Tesla V100-SXM2-16GB", 16384, 900, 125, 550, _SHEET),
    _cuda("Tesla V100-SXM2-32GB", 32768, 900, 125, 550, _SHEET),
    _cuda("GeForce RTX 3080", 10240, 760, 59, 550, _SHEET),
    _cuda("GeForce RTX 3090", 24576, 936, 71, 550, _SHEET),
    _cuda("GeForce RTX 4080", 16376, 717, 97, 600, _SHEET),
    _cuda("GeForce RTX 4090", 24564, 1008, 165, 600, _SHEET),
    _cuda("GeForce RTX 5090", 32607, 1792, 210, 900, _SHEET),
    _cuda("RTX A4000", 16376, 448, 77, 550, _SHEET),
    _cuda("RTX A5000", 24564, 768, 111, 550, _SHEET),
    _cuda("RTX A6000", 49140, 768, 155, 550, _SHEET),
    _cuda("RTX 6000 Ada Generation", 49140, 960, 364, 600, _SHEET),
    _cuda("A10", 23028, 600, 125, 550, _SHEET),
    _cuda("A10G", 23028, 600, 70, 550, _SHEET),
    _cuda("A30", 24576, 933, 165, 550, _SHEET),
    _cuda("A40", 46068, 696, 150, 550, _SHEET),
    _cuda("L4", 23034, 300, 121, 600, _SHEET),
    _cuda("L40", 46068, 864, 181, 600, _SHEET),
    _cuda("L40S", 46068, 864, 362, 600, _SHEET),
    _cuda("A100-PCIE-40GB", 40960, 1555, 312, 600, _SHEET),
    _cuda("A100-SXM4-40GB", 40960, 1555, 312, 600, _SHEET),
    _cuda("A100 80GB PCIe", 81920, 1935, 312, 600, _SHEET),
    _cuda("A100-SXM4-80GB", 81920, 2039, 312, 600, _SHEET),
    _cuda("H100 PCIe", 81559, 2039, 756, 900, _SHEET, hopper=True),
    _cuda("H100 80GB HBM3", 81559, 3350, 989, 900, _SHEET, hopper=True),
    _cuda("H100 NVL", 95830, 3938, 835, 900, _SHEET, hopper=True),
    _cuda("H200", 143771, 4800, 989, 900, _SHEET, hopper=True),
    _cuda("B200", 183359, 8000, 2250, 1000, _SHEET, hopper=True),
)
# A card that is not in the catalogue: the slowest of the common ones, with the largest context and
# workspaces.
_UNKNOWN = _cuda(
    "unknown", 0, 300, 55, 1800, "not in the catalogue: conservative figures for any CUDA card", hopper=True
)

# A CPU card's limit counts private writable memory (RLIMIT_DATA), and a trainer has malloc map blocks of 1 MiB and
# more by themselves (workers/measure.py). Measured on 2 cores with glibc 2.36: TRL runs of llama shapes (hidden 256 to
# 512, 4 to 8 layers, 256 tokens, full and LoRA, off and every layer, 1 to 4 micro-batches a step); VmData read every
# millisecond from outside, from after the imports on. Beyond the projected live bytes they took 71 to 81 MiB where
# tensors are large, 173 MiB where they are under 1 MiB and stay in the heap: stacks of threads, data set, tokenizer,
# fragments. The figures below put the projected device bytes of all of them between 6 % under and 10 % over, and the
# upper bound over every one. Three runs that the figures were not made from (qwen3 full, qwen2 and a very small llama
# with LoRA) came out 7, 7 and 24 % (44 MiB) over.
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
)


def card_for(kind: str, name: str, memory_bytes: int) -> Card:
    """The catalogue's card for a name as NVML gives it, with the memory that the host really reports.

    An unknown name gets conservative figures; kind "cpu" the CPU card.
    """
    if kind == "cpu":
        return replace(_CPU, name=name, memory_bytes=memory_bytes)
    plain = name.removeprefix("NVIDIA ")
    for card in CATALOGUE:
        if card.name == plain:
            return replace(card, name=name, memory_bytes=memory_bytes)
    named = [
        card
        for card in CATALOGUE
        if set(card.name.split()) <= set(plain.replace("-", " ").split()) | set(plain.split())
    ]
    if named:
        closest = max(named, key=lambda card: len(card.name))
        return replace(closest, name=name, memory_bytes=memory_bytes)
    return replace(_UNKNOWN, name=name, memory_bytes=memory_bytes)
