"""The trace's stand-in for bitsandbytes' 4-bit layer beside the real one, byte for byte on torch's own allocator."""

from __future__ import annotations

import pytest

from tests.cuda_double.processes import Cuda

BLOCK = 2**20  # what the allocator may leave uncut of a block that it hands out
PEAKS = """
import bitsandbytes, torch
from workers.profiler.emulation.fake_four_bit import FourBitLinear, Packing

IN, OUT, TOKENS = 2048, 5632, 4096

def taken(layer, given):
    found = []
    for _ in range(2):  # cuBLAS takes its workspaces in the first
        x = torch.ones(1, TOKENS, IN, device="cuda", dtype=given, requires_grad=True)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        made = layer(x)
        forward, kept = torch.cuda.max_memory_allocated() - before, torch.cuda.memory_allocated() - before
        torch.cuda.reset_peak_memory_stats()
        made.backward(torch.ones_like(made))
        found = [forward, kept, torch.cuda.max_memory_allocated() - before]
    return found

def both(compute, nested, given):
    how = {"compress_statistics": nested, "quant_type": "nf4"}
    real = bitsandbytes.nn.Linear4bit(IN, OUT, bias=False, compute_dtype=compute, **how)
    weight = torch.empty(OUT, IN, dtype=torch.bfloat16)
    real.weight = bitsandbytes.nn.Params4bit(weight, requires_grad=False, **how)
    fake = FourBitLinear(IN, OUT, None, Packing("nf4", nested, torch.bfloat16, compute))
    return [taken(one.cuda(), given) for one in (real, fake)]

types = {name: getattr(torch, name) for name in ("bfloat16", "float16", "float32")}
answer(found=[
    [compute, nested, given, *both(types[compute], nested, types[given])]
    for compute in types for nested in (False, True) for given in ("bfloat16", "float32")
])
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_stand_in_takes_what_the_real_layer_takes_whatever_its_products_are_made_in(cuda: Cuda) -> None:
    found = cuda.run(PEAKS)["found"]
    assert len(found) == 12
    for *case, real, fake in found:
        for what, ours, theirs in zip(("forward", "kept", "backward"), fake, real, strict=True):
            assert ours == pytest.approx(theirs, abs=BLOCK), (case, what)
