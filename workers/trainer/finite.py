"""Losses, gradients and weights that are not finite numbers, found before they are trained on, saved or published.

What a step costs for it: two numbers on the device. They are read at once where that is free (a CPU) or needed (skip,
the first step, float16, whose scaler reads as much); else with the next step, when they have long been copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from jobs.errors import TuneyardError
from workers.checkpoints.safetensors_header import Malformed, floats_in

# training.on_nan: skip gives up when so many steps in a row are not finite: none of them changed a weight.
SKIPS_IN_A_ROW = 10
# torch's GradScaler begins at 2**16 and halves its scale at each overflow: that many in a row leave less than 1/8.
OVERFLOWS_IN_A_ROW = 20
_PIECE_BYTES = 16 << 20
_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class NotFinite(TuneyardError):
    """What would be published is not finite."""


@dataclass(frozen=True)
class Fault:
    """The first step that is not finite, and what of it."""

    step: int
    what: str

    def __str__(self) -> str:
        return f"diverged in step {self.step}: {self.what}"


class Guard:
    """Judges steps by the sum of their losses and the norm of their gradients.

    skip: leave out the update of a step that is not finite, else the first one ends training; lag: on this device a
    number is not read at once without waiting; alone: no other rank could judge differently.
    """

    def __init__(self, skip: bool, lag: bool = False, alone: bool = True) -> None:
        self.fault: Fault | None = None
        self.skipped = 0  # by this attempt
        self.left_out = 0  # updates of the run that were left out, by us or a scaler, since its first step
        self._skip, self._lag, self._alone = skip, lag and not skip, alone
        self._loss: torch.Tensor | None = None
        self._pending: tuple[int, torch.Tensor, torch.cuda.Event] | None = None
        self._judged = self._skips = self._overflows = 0
        self._what = "the gradients overflow"

    @property
    def first_skip(self) -> bool:
        """Whether the step judged last was skipped, and the one before it was not."""
        return self._skips == 1

    @property
    def begins(self) -> bool:
        """Whether no micro-batch of the step has been counted yet."""
        return self._loss is None

    def count(self, loss: torch.Tensor) -> None:
        """The loss of one more micro-batch of a step."""
        loss = loss.detach().float()
        self._loss = loss if self._loss is None else self._loss + loss

    def judge(self, step: int, norm: torch.Tensor | float | None, scaled: bool = False) -> bool:
        """Whether the update of this step is to be left out. scaled: a scaler passes over gradients that overflow."""
        loss, self._loss = self._loss, None
        if loss is None or norm is None:
            return False
        seen = torch.stack([loss, torch.as_tensor(norm, dtype=torch.float32, device=loss.device)])
        self.settle()
        self._judged += 1
        if self._lag and self._judged > 1 and not scaled:
            there = torch.empty(2, pin_memory=True)
            there.copy_(seen, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            self._pending = step, there, event
            return False
        if self._skip and not self._alone:  # all ranks leave out the same steps
            torch.distributed.all_reduce(seen, torch.distributed.ReduceOp.SUM)
        total, size = seen.tolist()
        return self._conclude(step, total, size, scaled)

    def settle(self) -> None:
        """Judge the step that was put off, if there is one."""
        if self._pending is not None:
            step, there, event = self._pending
            self._pending = None
            event.synchronize()
            total, size = there.tolist()
            self._conclude(step, total, size, False)

    def _conclude(self, step: int, loss: float, norm: float, scaled: bool) -> bool:
        if math.isfinite(loss) and math.isfinite(norm):
            self._skips = self._overflows = 0
            return False
        if self.fault is not None:
            return True
        what = (
            f"the loss is {word(loss)}" if not math.isfinite(loss) else f"the gradients' norm is {word(norm)}"
        )
        self.left_out, self._what = self.left_out + 1, what
        if scaled and math.isfinite(loss):
            self._overflows += 1
            if self._overflows < OVERFLOWS_IN_A_ROW:
                return False
            first = step - self._overflows + 1
        elif self._skip:
            self._skips += 1
            self.skipped += 1
            if self._skips < SKIPS_IN_A_ROW:
                return True
            first = step - self._skips + 1
        else:
            first = step
        self.fault = Fault(first, _in_a_row(what, step - first + 1))
        return True

    def untrained(self, steps: int) -> Fault | None:
        """Whether none of all the steps of a run changed a weight: then there is nothing to publish."""
        if not steps or self.left_out < steps:
            return None
        return Fault(1, f"{_in_a_row(self._what, steps)}, so no step was trained")


def _in_a_row(what: str, steps: int) -> str:
    after = "the step" if steps == 2 else f"the {steps - 1} steps"
    return f"{what}, as in {after} after it" if steps > 1 else what


def word(value: float) -> str:
    """nan, inf or -inf."""
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def first_not_finite(named: Iterable[tuple[str, torch.Tensor]]) -> str | None:
    """The name of the first of these tensors with a number that is not finite; None: all are well.

    Least and greatest value tell, for NaN comes through: no memory is taken beside the tensor.
    """
    names, ends = [], []
    with torch.no_grad():
        for name, tensor in named:
            if tensor.is_floating_point() and tensor.numel():
                names.append(name)
                ends.append(torch.stack(torch.aminmax(tensor.detach())).float())
        if not ends:
            return None
        well = torch.isfinite(torch.stack([pair.to(ends[0].device) for pair in ends])).all(dim=1).tolist()
    return next((name for name, good in zip(names, well, strict=True) if not good), None)


def weights_fault(model: torch.nn.Module | None, step: int) -> Fault | None:
    """Whether what is trained of a model may not be saved after this step."""
    named = () if model is None else model.named_parameters()
    name = first_not_finite((name, weight) for name, weight in named if weight.requires_grad)
    return None if name is None else Fault(step, f"the weights are not finite after it, such as {name}")


def not_finite_in(folder: Path) -> str | None:
    """The same of the weights in a folder's safetensors files, a piece at a time: a mapping would count as memory.

    Raises Malformed, which names the file.
    """
    sizes = {kind: dtype.itemsize for kind, dtype in _FLOATS.items()}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            try:
                for name, kind, begin, count in floats_in(file, sizes):
                    file.seek(begin)
                    if any(
                        first_not_finite([(name, piece)]) for piece in _pieces(file, count, _FLOATS[kind])
                    ):
                        return name
            except Malformed as error:
                raise Malformed(f"{path.name} is damaged: {error}") from None
    return None


def _pieces(file: BinaryIO, left: int, kind: torch.dtype) -> Iterator[torch.Tensor]:
    while left:
        data = bytearray(file.read(min(left, _PIECE_BYTES)))
        if not data:
            return  # cut off: its manifest tells
        left -= len(data)
        yield torch.frombuffer(data, dtype=kind)
