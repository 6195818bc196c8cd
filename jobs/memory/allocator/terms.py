"""held(): what torch's CUDA allocator holds beside live tensors (c10/cuda/CUDACachingAllocator.cpp, torch 2.13).

Live tensors are counted in blocks of 512 bytes already. What comes on top, and why:

- cuBLAS keeps a workspace for each thread that uses it: the main one and autograd's. It is taken from the allocator, so
  torch counts it as allocated. Trainers have them taken before the first step (workers/trainer/allocator.py).
- With the default allocator a free block is given out whole where less than 1 MiB of it would be left: the remainders
  count as allocated, too. Segments that expand are split down to 512 bytes.
- Segments are whole: 2 MiB for tensors up to 1 MiB, 20 MiB for those up to 10 MiB and for pages of segments that
  expand.
- What is free between live tensors is too small, or in the wrong place, for what comes next. It goes with all that
  comes and goes in a step, and with the largest tensors of a layer and of the loss, which need one piece each.
- Where batches have different lengths the default allocator takes new segments for each one that is longer than all
  before it, as no piece that there is has room for its tensors, and keeps the old ones until memory is short. So
  trainers begin with the longest rows there (workers/trainer/longest_first.py), and what follows is cut from their
  segments.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jobs.cards import Card
from jobs.memory.allocator.fitted import FITTED
from jobs.memory.moments.highest import Floats, Highest, Moments

Bytes = NDArray[np.int64]
THREADS = 2  # that use cuBLAS


def held(card: Card, found: Highest, alike: bool) -> tuple[Bytes, Bytes]:
    """Bytes beside live ones at each rung: within what torch counts as allocated, and reserved beyond that.

    alike: all batches are of one length.
    """
    terms = FITTED[card.allocator, "alike" if alike else "varied"]
    moving = found.moving
    within = THREADS * card.workspace_bytes + terms.remainders * moving
    beyond = terms.segments_bytes + terms.moving * moving + terms.transient * transient(found)
    beyond = beyond + terms.loss * found.loss.loss
    return np.rint(within).astype(np.int64), np.rint(beyond).astype(np.int64)


def transient(found: Highest) -> Floats:
    """What a layer holds at most, but only while it runs."""
    return np.maximum(_of_layer(found.forward), _of_layer(found.backward))


def _of_layer(one: Moments) -> Floats:
    return np.maximum(one.live - one.gradients - one.activations - one.boundaries - one.loss, 0.0)
