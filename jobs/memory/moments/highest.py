"""What the high points of many steps are found to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """High points, each in bytes beside the resting ones.

    live: all of it; the others are parts of it: gradients, what plain layers and `before` keep (activations; plain:
    of the layers alone), what checkpointed layers keep (boundaries), what the loss works in.
    """

    live: Floats
    gradients: Floats
    activations: Floats
    boundaries: Floats
    loss: Floats
    plain: Floats

    def of(self, which: Any) -> Moments:
        return Moments(*(value[which] for value in vars(self).values()))


@dataclass(frozen=True)
class Highest:
    """What a step comes to at each of many rungs; every array ends in the rungs' axis.

    forward, loss, backward: the highest moment of each; reference: the same of its forward pass, where it makes one
    while activations are held; evaluation: live bytes and those of the loss, None where the
    profile has no such pass; moving: most that is live outside the loss at any time. Of one micro-batch: flops;
    touched_bytes: bytes written to memory and read back; offloaded_bytes: bytes moved to the host, and back again.
    """

    forward: Moments
    loss: Moments
    backward: Moments
    evaluation: tuple[Floats, Floats] | None
    reference: Moments | None
    moving: Floats
    flops: Floats
    touched_bytes: Floats
    offloaded_bytes: Floats
