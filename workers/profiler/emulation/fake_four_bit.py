"""bitsandbytes' 4-bit linear layer as the trace sees it: the bytes it keeps and the tensors it makes, no arithmetic.

A stand-in, because a trace runs where bitsandbytes may not be installed, and because its custom operators hide what
they allocate from a dispatch mode. Followed here, bitsandbytes 0.50: `nn.Linear4bit.forward`, `MatMul4Bit`
(autograd/_functions.py), `_dequant_linear_fallback` (backends/cuda/ops.py, what runs from 1537 tokens on; for fewer
a fused kernel may save the dequantised weight) and `dequantize_4bit` (functional.py), with NF4, blocks of 64
weights, and double quantisation in blocks of 256. tests/workers/profiler/test_qlora.py holds it against the real one
on a CPU, tests/cuda_double/test_four_bit.py against its CUDA paths, with products in every type.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from peft import import_utils
from peft.tuners import lora
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module

# What a BitsAndBytesConfig has where it does not say (transformers 5.23, utils/quantization_config.py).
_SAID_NOTHING = {"bnb_4bit_quant_type": "fp4", "bnb_4bit_compute_dtype": "float32"}
BLOCK, NESTED_BLOCK = 64, 256  # bitsandbytes' defaults: weights to a statistic, statistics to a nested one
_CODE, _NESTED_CODE = 16, 256  # entries of the lookup tables, float32; each weight has its own


@dataclass(frozen=True)
class Packing:
    """How a base lies in 4 bits.

    kind: "nf4" or "fp4"; nested: whether statistics are quantised too; dtype: that weights are unpacked to; compute:
    that products are made in; skipped: modules that its folder says are not packed, None: transformers' own choice;
    packed_before: nothing is packed as it loads.
    """

    kind: str
    nested: bool
    dtype: torch.dtype
    compute: torch.dtype
    skipped: tuple[str, ...] | None = None
    packed_before: bool = False


def packing_of(method: str, dtype: torch.dtype, config: PretrainedConfig) -> Packing | None:
    """How the base of a job lies in 4 bits; None where it does not.

    What a folder's config.json says of weights that are packed already goes before what a job asks for
    (transformers 5.23, quantizers/auto.py, merge_quantization_configs).
    """
    said = getattr(config, "quantization_config", None)
    if isinstance(said, Mapping) and said.get("load_in_4bit"):
        found = _SAID_NOTHING | {key: value for key, value in said.items() if value is not None}
        stored = getattr(config, "dtype", None)
        skipped = said.get("llm_int8_skip_modules")
        return Packing(
            kind=str(found["bnb_4bit_quant_type"]),
            nested=bool(said.get("bnb_4bit_use_double_quant")),
            dtype=stored if isinstance(stored, torch.dtype) else dtype,
            compute=getattr(torch, str(found["bnb_4bit_compute_dtype"]).removeprefix("torch.")),
            skipped=None if skipped is None else tuple(map(str, skipped)),
            packed_before=True,
        )
    return Packing("nf4", True, dtype, torch.bfloat16) if method == "qlora" else None


class FourBitLinear(nn.Linear):
    """Linear4bit: packed weights and their statistics, dequantised for each product."""

    def __init__(
        self, features_in: int, features_out: int, bias: nn.Parameter | None, packing: Packing
    ) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = features_in, features_out
        self.dtype, self.compute_dtype = packing.dtype, packing.compute
        self.nested_statistics, self.packed_before = packing.nested, packing.packed_before
        weights = features_in * features_out
        statistics = -(-weights // BLOCK)
        packed = torch.empty((-(-weights // 2), 1), dtype=torch.uint8)
        self.packed = nn.Parameter(packed, requires_grad=False)
        kind = torch.uint8 if packing.nested else torch.float32
        self.register_buffer("absmax", torch.empty(statistics, dtype=kind))
        self.register_buffer("code", torch.empty(_CODE, dtype=torch.float32))
        if packing.nested:
            self.register_buffer("nested", torch.empty(-(-statistics // NESTED_BLOCK), dtype=torch.float32))
            self.register_buffer("nested_code", torch.empty(_NESTED_CODE, dtype=torch.float32))
            self.register_buffer("offset", torch.empty((), dtype=torch.float32))
        self.bias = bias

    @property
    def weight(self) -> torch.Tensor:
        """Dequantised, as DoRA asks for it (peft 0.21, utils/integrations.py, dequantize_bnb_weight)."""
        return self.dequantised(self.dtype)

    def statistics(self) -> list[torch.Tensor]:
        """New tensors in float32 on the way to the statistics, which come last; none where they lie so."""
        if not self.nested_statistics:
            return []
        made = torch.empty(self.absmax.shape, dtype=torch.float32, device=self.absmax.device)
        return [made, made + self.offset]

    def unpacked(self, dtype: torch.dtype) -> torch.Tensor:
        """A new tensor of the whole weight."""
        return torch.empty((self.out_features, self.in_features), dtype=dtype, device=self.absmax.device)

    def dequantised(self, dtype: torch.dtype) -> torch.Tensor:
        """The same, by way of the statistics (functional.py, dequantize_4bit, which adds the offset in place)."""
        _ = self.statistics()[:1]
        return self.unpacked(dtype)

    def product(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """As _dequant_linear_fallback makes it, with all that it keeps to its end."""
        _ = self.statistics()
        return nn.functional.linear(x, self.unpacked(x.dtype), bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        given = x.dtype
        x = x.to(self.compute_dtype)
        bias = None if self.bias is None else self.bias.to(self.compute_dtype)
        if torch.is_grad_enabled() and x.requires_grad:
            return _Product.apply(x, self, bias).to(given)
        return self.product(x, bias).to(given)


class _Product(torch.autograd.Function):
    """MatMul4Bit: keeps nothing of its input; the weight is dequantised again for the backward product."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: FourBitLinear, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.layer = layer
        return layer.product(x, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        gradient = gradients[0]
        layer = ctx.layer
        weight = layer.dequantised(layer.dtype).to(gradient.dtype)
        return torch.matmul(gradient, weight), None, None


def pack(base: PreTrainedModel, packing: Packing) -> None:
    """Put a FourBitLinear for every layer that transformers would quantise (integrations/bitsandbytes.py).

    That leaves out the output embeddings, tied weights (unless the folder of a packed base names others), and what is
    no plain linear layer, as fused experts are.
    """
    left = get_keys_to_not_convert(base) if packing.skipped is None else packing.skipped
    kept = [*left, *(getattr(base, "_keep_in_fp32_modules", None) or ())]
    for name, module in list(base.named_modules()):
        if not should_convert_module(name, kept):
            continue
        if type(module) is nn.Linear:
            features = module.in_features, module.out_features
        elif isinstance(module, Conv1D):
            features = module.weight.shape[0], module.weight.shape[1]
        else:
            continue
        with torch.device("meta"):
            base.set_submodule(name, FourBitLinear(*features, module.bias, packing))


NEARLY_ALL = 0.9  # of the weights in 4 bits: no word on the rest


def packed_note(packed: int, others: Mapping[str, int]) -> tuple[str, ...]:
    """How much of a model is in 4 bits and why no more, where it is not nearly all.

    others: weights that are not, by the class of their module.
    """
    whole = packed + sum(others.values())
    if packed >= NEARLY_ALL * whole:
        return ()
    name, _ = max(others.items(), key=lambda item: item[1])
    what = "embeddings and output head" if name in ("Embedding", "Linear") else f"the weights of {name}"
    why = "" if name in ("Embedding", "Linear") else ", no plain linear layer,"
    share = f"{packed / whole:.0%}" if packed else "none"
    return (f"4 bits hold {share} of the weights: bitsandbytes leaves {what}{why} as they are",)


def elements(parameter: nn.Parameter) -> int:
    """Weights in a parameter: a byte holds two packed ones."""
    return parameter.numel() * (2 if parameter.dtype is torch.uint8 else 1)


def load_transient_bytes(base: nn.Module) -> int:
    """Most that loading takes beside what stays: one weight before it is packed (Params4bit._quantize); 0 without."""
    packed = [
        module for module in base.modules() if isinstance(module, FourBitLinear) and not module.packed_before
    ]
    return max((m.in_features * m.out_features * m.dtype.itemsize for m in packed), default=0)


@cache
def adapter_class() -> type[nn.Module]:
    """PEFT's own LoRA layer over a 4-bit base (peft/tuners/lora/bnb.py), loaded without bitsandbytes.

    The file is run under another name with a stand-in for that import, so that what trains in this process later
    meets the real thing.
    """
    path = importlib.util.find_spec("peft.tuners.lora.bnb")
    assert path is not None and path.origin is not None, "peft has lora/bnb.py"
    spec = importlib.util.spec_from_file_location(f"{lora.__name__}.four_bit_trace", path.origin)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    asked = ("is_bnb_available", "is_bnb_4bit_available")
    kept = {name: getattr(import_utils, name) for name in asked}
    there, real = "bitsandbytes" in sys.modules, sys.modules.get("bitsandbytes")
    sys.modules["bitsandbytes"] = _stand_in()
    try:
        for name in asked:
            setattr(import_utils, name, lambda: True)
        spec.loader.exec_module(module)
    finally:
        for name, value in kept.items():
            setattr(import_utils, name, value)
        del sys.modules["bitsandbytes"]
        if there:
            sys.modules["bitsandbytes"] = real  # type: ignore[assignment]  # None: left out (workers/profiler/emulation/import_stubs.py)
    made: type[nn.Module] = module.Linear4bit
    return made


def _stand_in() -> ModuleType:
    module = ModuleType("bitsandbytes")
    module.__spec__ = importlib.machinery.ModuleSpec("bitsandbytes", None)
    module.nn = SimpleNamespace(Linear4bit=FourBitLinear)  # type: ignore[attr-defined]
    return module
