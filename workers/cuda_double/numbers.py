"""Whether numbers on the card are well: finite, or not any more, as CUDA_DOUBLE_FAULTS asks."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import torch


class Numbers:
    """ill_from: the optimizer step from which on nothing is finite; None: never."""

    _steps = 0  # optimizer steps of this process

    def __init__(self, ill_from: int | None = None) -> None:
        self._ill_from = ill_from

    @classmethod
    def from_environment(cls) -> Numbers:
        """As `nan step=3` among the faults says."""
        text = os.environ.get("CUDA_DOUBLE_FAULTS", "")
        if text.startswith("/"):
            text = Path(text).read_text() if Path(text).exists() else ""
        found = re.search(r"(?:^|[;\n])\s*nan\b(?:\s+step=(\d+))?", text)
        return cls(int(found[1] or 1) if found else None)

    @property
    def ill(self) -> bool:
        """Whether the step that is being made has numbers that are not finite."""
        return self._ill_from is not None and Numbers._steps + 1 >= self._ill_from

    def count_step(self) -> None:
        Numbers._steps += 1

    def well(self, number: float) -> float:
        """What is read of a number on the card."""
        if math.isfinite(number) or self._ill_from is not None:
            return number
        return 1.0

    def make_well(self, values: torch.Tensor, judged: bool = False, leaving: bool = False) -> None:
        """Make floats in memory of the host finite; ill ones NaN, where they are judged or leave the card."""
        if self.ill and (judged or (leaving and values.numel() > 1)):
            values.fill_(math.nan)
            return
        if self._ill_from is not None and values.numel() <= 2:
            return  # what was made ill on purpose is read as it is
        least, most = torch.aminmax(values.real if values.is_complex() else values)
        if not (math.isfinite(least.item()) and math.isfinite(most.item())):
            torch.nan_to_num_(values, nan=1.0, posinf=1.0, neginf=-1.0)
