"""jobs/memory/allocator/caching_allocator.py against torch's own: the same sequence, the same bytes at every point."""

from __future__ import annotations

import random

from jobs.memory.allocator.caching_allocator import Block, CachingAllocator
from jobs.units import KiB, MiB
from tests.cuda_double.processes import Cuda

STEPS = 1000
RUN = """
import torch
torch.cuda.init()
held, found, pool = {{}}, [], torch.cuda.MemPool()
for key, count, apart in {steps}:
    if not count:
        del held[key]
    elif apart:
        with torch.cuda.use_mem_pool(pool):
            held[key] = torch.empty(count, dtype=torch.uint8, device="cuda")
    else:
        held[key] = torch.empty(count, dtype=torch.uint8, device="cuda")
    found.append((torch.cuda.memory_reserved(), torch.cuda.memory_allocated()))
answer(found=found, retries=torch.cuda.memory_stats()["num_alloc_retries"])
"""


def steps(seed: int) -> list[tuple[int, int, bool]]:
    """(key, bytes, apart): allocated, in a pool of its own or not; 0 bytes: freed. Sizes of all kinds, many of them
    equal, as in training."""
    chance = random.Random(seed)
    sizes = [round(2 ** chance.uniform(0, 27)) for _ in range(30)]
    sizes += [KiB, MiB, MiB + 1, 10 * MiB, 10 * MiB - 512, 19 * MiB, 20 * MiB, 2 * MiB]
    live: list[int] = []
    made: list[tuple[int, int, bool]] = []
    for key in range(STEPS):
        if live and chance.random() < 0.5:
            made.append((live.pop(chance.randrange(len(live))), 0, False))
        else:
            live.append(key)
            made.append((key, chance.choice(sizes), chance.random() < 0.1))
    return made


def test_every_step_reserves_and_allocates_what_torch_does(cuda: Cuda) -> None:
    asked = steps(1)
    theirs = cuda.run(RUN.format(steps=asked), PYTORCH_CUDA_ALLOC_CONF="expandable_segments:False")
    assert not theirs["retries"], "the card is too small for this sequence"
    ours = CachingAllocator()
    held: dict[int, Block] = {}
    for index, ((key, count, apart), found) in enumerate(zip(asked, theirs["found"], strict=True)):
        if count:
            ours.use("apart" if apart else "")
            held[key] = ours.allocate(count)
        else:
            ours.release(held.pop(key))
        assert [ours.reserved, ours.allocated] == found, f"step {index}"
