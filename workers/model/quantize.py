"""A job's base model packed in 4 bits by bitsandbytes: NF4 with double quantisation (QLoRA, arXiv:2305.14314)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module


def four_bit() -> BitsAndBytesConfig:
    """NF4 with double quantisation, computing in bfloat16 (QLoRA, section 3)."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def unpack(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Puts the numbers that 4-bit weights stand for in their place, layer by layer: the same model as plain layers.

    bitsandbytes has kernels of its own for a CPU, which take not every shape.
    """
    import bitsandbytes  # here: only hosts that train with it have it, and it takes seconds

    for name, module in list(model.named_modules()):
        if not isinstance(module, bitsandbytes.nn.Linear4bit):
            continue
        weight = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
        with torch.device("meta"):
            plain = nn.Linear(module.in_features, module.out_features, module.bias is not None)
        plain.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
        plain.bias = module.bias
        model.set_submodule(name, plain)
    model.is_loaded_in_4bit = False


def quantise(model: PreTrainedModel, device: torch.device | str) -> PreTrainedModel:
    """Packs a model's weights in place and puts all of it on device, as from_pretrained does while it loads.

    For random weights, which there is nothing to load for. Holds one whole weight on the device at a time.
    """
    import bitsandbytes  # here: only hosts that train with it have it, and it takes seconds

    kept = [*get_keys_to_not_convert(model), *(getattr(model, "_keep_in_fp32_modules", None) or ())]
    for name, module in list(model.named_modules()):
        transposed = isinstance(module, Conv1D)
        if not (transposed or type(module) is nn.Linear) or not should_convert_module(name, kept):
            continue
        weight = module.weight.data.T.contiguous() if transposed else module.weight.data
        options: dict[str, Any] = {"compress_statistics": True, "quant_type": "nf4"}
        with torch.device("meta"):
            packed = bitsandbytes.nn.Linear4bit(
                weight.shape[1], weight.shape[0], module.bias is not None, torch.bfloat16, **options
            )
        packed.weight = bitsandbytes.nn.Params4bit(weight, requires_grad=False, module=packed, **options).to(
            device
        )
        packed.bias = module.bias
        packed.requires_grad_(False)
        model.set_submodule(name, packed)
    model.to(device)
    model.is_loaded_in_4bit = True
    return model
