"""What CUDA and NVML show of each card of the catalogue, beside what the catalogue knows."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.cards import CATALOGUE, Card, find_card
from jobs.errors import UsageError
from jobs.units import KiB, MiB, parse_size

# What the first handle of a library adds to a process's context: its kernels are loaded then. Priors, not measured
# here; cuBLAS's is a part of the catalogue's context, for everything that trains uses it.
_BLAS_BYTES = 72 * MiB
_DNN_BYTES = 64 * MiB


@dataclass(frozen=True)
class Figures:
    """capability: compute capability; processors: streaming multiprocessors; threads: of one of them; shared_kib:
    shared memory of one of them, of which a block can have all but 1 KiB; binary: the architecture of torch's own
    kernels that run on it, 86 for 89.
    """

    capability: tuple[int, int]
    processors: int
    threads: int
    bus_bits: int
    l2_mib: float
    shared_kib: int

    @property
    def binary(self) -> int:
        major, minor = self.capability
        return 86 if self.capability == (8, 9) else 10 * major + minor


# From NVIDIA's architecture whitepapers, and the table "Technical Specifications per Compute Capability" of the CUDA
# C++ Programming Guide.
_TURING, _AMPERE, _ADA, _HOPPER, _BLACKWELL = (7, 5), (8, 6), (8, 9), (9, 0), (12, 0)
FIGURES: dict[str, Figures] = {
    "t4": Figures(_TURING, 40, 1024, 256, 4, 64),
    "v100-16gb": Figures((7, 0), 80, 2048, 4096, 6, 96),
    "v100-32gb": Figures((7, 0), 80, 2048, 4096, 6, 96),
    "rtx3080": Figures(_AMPERE, 68, 1536, 320, 5, 100),
    "rtx3090": Figures(_AMPERE, 82, 1536, 384, 6, 100),
    "rtx4080": Figures(_ADA, 76, 1536, 256, 64, 100),
    "rtx4090": Figures(_ADA, 128, 1536, 384, 72, 100),
    "rtx5090": Figures(_BLACKWELL, 170, 1536, 512, 96, 100),
    "a4000": Figures(_AMPERE, 48, 1536, 256, 4, 100),
    "a5000": Figures(_AMPERE, 64, 1536, 384, 6, 100),
    "a6000": Figures(_AMPERE, 84, 1536, 384, 6, 100),
    "rtx6000ada": Figures(_ADA, 142, 1536, 384, 96, 100),
    "rtxpro6000": Figures(_BLACKWELL, 188, 1536, 512, 128, 100),
    "rtxpro6000-server": Figures(_BLACKWELL, 188, 1536, 512, 128, 100),
    "rtxpro6000-maxq": Figures(_BLACKWELL, 188, 1536, 512, 128, 100),
    "a10": Figures(_AMPERE, 72, 1536, 384, 6, 100),
    "a10g": Figures(_AMPERE, 80, 1536, 384, 6, 100),
    "a30": Figures((8, 0), 56, 2048, 3072, 24, 164),
    "a40": Figures(_AMPERE, 84, 1536, 384, 6, 100),
    "l4": Figures(_ADA, 58, 1536, 192, 48, 100),
    "l40": Figures(_ADA, 142, 1536, 384, 96, 100),
    "l40s": Figures(_ADA, 142, 1536, 384, 96, 100),
    "a100-pcie-40gb": Figures((8, 0), 108, 2048, 5120, 40, 164),
    "a100-40gb": Figures((8, 0), 108, 2048, 5120, 40, 164),
    "a100-pcie-80gb": Figures((8, 0), 108, 2048, 5120, 40, 164),
    "a100-80gb": Figures((8, 0), 108, 2048, 5120, 40, 164),
    "h100-pcie": Figures(_HOPPER, 114, 2048, 5120, 50, 228),
    "h100": Figures(_HOPPER, 132, 2048, 5120, 50, 228),
    "h100-nvl": Figures(_HOPPER, 132, 2048, 6016, 60, 228),
    "h200": Figures(_HOPPER, 132, 2048, 6144, 60, 228),
    "b200": Figures((10, 0), 148, 2048, 8192, 126, 228),
}


def table() -> str:
    """The catalogue as C: what sources/double.h declares as CARD_TYPES."""
    rows = "".join(f"    {_row(card)},\n" for card in CATALOGUE)
    return (
        '#include "double.h"\n\n'
        f"const struct card_type CARD_TYPES[] = {{\n{rows}}};\n"
        "const size_t CARD_TYPE_COUNT = sizeof CARD_TYPES / sizeof *CARD_TYPES;\n"
    )


def _row(card: Card) -> str:
    of = FIGURES[card.short]
    shared = of.shared_kib * KiB
    # Volta and Turing have no KiB of each block for the system (Programming Guide, "Shared Memory").
    block = shared if of.capability < (8, 0) else shared - KiB
    numbers = (
        *(card.total_bytes, card.memory_bytes),
        *(card.context_bytes - _BLAS_BYTES, _BLAS_BYTES, _DNN_BYTES, card.distributed_bytes),
        *(*of.capability, of.binary, of.processors, of.threads, of.bus_bits, int(of.capability >= (9, 0))),
        *(round(of.l2_mib * MiB), block, shared),
    )
    return f'{{"{card.short}", "{card.name}", {", ".join(map(str, numbers))}}}'


def read_cards(text: str) -> str:
    """CUDA_DOUBLE_CARDS for what a person writes: find_card's names, each with a size or without, apart by commas.

    A size is what processes can have of the card, contexts included, and may be any. Raises UsageError.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if not entries:
        raise UsageError("no cards were named; write some such as rtx4090,a100-80gb:20GiB")
    return ",".join(_entry(entry) for entry in entries)


def _entry(entry: str) -> str:
    name, colon, size = entry.partition(":")
    short = find_card(name).short
    if not colon:
        return short
    try:
        size_bytes = parse_size(size)
    except ValueError as error:
        raise UsageError(f"card {entry!r} is {error}") from None
    if size_bytes <= 0:
        raise UsageError(f"card {entry!r} has no memory; write a size such as {name}:24GiB")
    return f"{short}:{size_bytes}B"
