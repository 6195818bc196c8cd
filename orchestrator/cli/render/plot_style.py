"""How pictures look: colours in light and dark, one for each meaning, and for each part of memory. Pure.

Colours are after Okabe and Ito, "Color Universal Design" (2008), and Tol, "Colour Schemes" (2021), "muted": told apart
with any colour blindness.
"""

from __future__ import annotations

from dataclasses import dataclass

# The order of the parts in a bar, from what is always there to what comes and goes.
PARTS = {
    "weights": "#332288",
    "adapters": "#6699cc",
    "reference": "#44aa99",
    "gradients": "#882255",
    "optimizer": "#cc6677",
    "activations": "#117733",
    "boundaries": "#88ccaa",
    "logits_and_loss": "#ddcc77",
    "transients": "#e69f00",
    "ddp_buffers": "#aa4499",
    "allocator": "#9aa3ad",
    "context": "#c3c9d0",
    "nccl": "#dfe3e7",
}
_NAMES = {"ddp_buffers": "DDP buffers", "nccl": "NCCL", "logits_and_loss": "logits and loss"}
LINES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Theme:
    """Colours by meaning. series: of lines beside each other."""

    back: str
    ink: str
    faint: str
    grid: str
    good: str
    bad: str
    plain: str
    mark: str
    series: tuple[str, ...]


LIGHT = Theme(
    back="#ffffff",
    ink="#1c2733",
    faint="#8a949e",
    grid="#d9dee3",
    good="#00795a",
    bad="#c8450b",
    plain="#0066a4",
    mark="#b06f00",
    series=("#0066a4", "#c8450b", "#00795a", "#8a3c72"),
)
DARK = Theme(
    back="#14191f",
    ink="#e4e8ec",
    faint="#8d98a3",
    grid="#2f3943",
    good="#2fc496",
    bad="#f57c3a",
    plain="#56b4e9",
    mark="#e6a92e",
    series=("#56b4e9", "#f57c3a", "#2fc496", "#d58bbd"),
)


def part_name(name: str) -> str:
    """A part of memory for people."""
    return _NAMES.get(name, name.replace("_", " "))


def ink_on(colour: str) -> str:
    """Black or white: what can be read on a colour (WCAG 2.2, relative luminance)."""
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in (red, green, blue)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#ffffff" if luminance < 0.18 else "#10151a"
