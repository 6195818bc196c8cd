"""LitGPT's LoRA fine-tuning of October 2023, as far as it decides what a step keeps, in this project's own words.

The published rows were measured with this model code, not with transformers' and PEFT's, so a comparison with them
is one of the tracing only when what is traced keeps what theirs kept. Followed here, from lit_gpt/{model,lora,
rmsnorm,utils}.py, finetune/lora.py and lightning_fabric 2.1 (plugins/precision/half.py), nothing fitted to a row:

- Query, key and value are one product. LoRA on two of the three goes through a dropout and a grouped convolution, is
  put among zeros over the full width, scaled, and added: the sum is a new tensor of three widths, value a view of it.
- Rotary embedding makes new queries and keys of the turned part and the rest (torch.cat), in bfloat16 again.
- RMSNorm is computed in float32, LayerNorm in the weights' type; norms are frozen, as every base weight.
- The head's products are made for 128 tokens at a time and all kept. Fabric turns what a half-precision model returns
  into float32; cross entropy keeps its log-softmax of each chunk beside those logits, which the loop still names.
- With `--quantize` every torch.nn.Linear is bitsandbytes', the head among them.

Pull request 606 of 2023-10-03 ("Half precision fixes") is in: the rows are of 2023-10-20.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from transformers import PretrainedConfig

from jobs.jobfile.spec import JobSpec
from workers.profiler.emulation.fake_four_bit import BLOCK, FourBitLinear, Packing
from workers.profiler.fake_model import FakeModel
from workers.profiler.trace import whole_step

HEAD_CHUNK = 128  # finetune/lora.py, lm_head_chunk_size
ROTARY_BASE = 10000


@dataclass(frozen=True)
class Shape:
    """What of lit_gpt/config.py bears on memory, for models whose key and value heads are as many as the others.

    gated: a Llama block (RMSNorm, gated MLP, one sum after the other); else a GPT-NeoX one (LayerNorm, GELU,
    attention and MLP side by side). shared_norm: those two read the same norm. rotary: share of a head that is turned.
    """

    layers: int
    width: int
    inner: int
    heads: int
    vocabulary: int
    gated: bool
    rotary: float = 1.0
    bias: bool = False
    head_bias: bool = False
    shared_norm: bool = False


def peak_bytes(
    shape: Shape, spec: JobSpec, *, quant: str, rank: int, dropout: float, rows: int, length: int
) -> tuple[int, int]:
    """Peak live bytes of one step, traced through at full depth by workers/profiler/trace.py, and the parameters
    trained.

    quant: what `--quantize` says, bnb.nf4 or bnb.nf4-dq, or nothing.
    """
    mode = FakeTensorMode()
    with mode, torch.device("cpu"):
        torch.set_default_dtype(torch.bfloat16)  # --precision bf16-true: every weight is made in it
        try:
            model = _Model(shape, quant, rank, dropout, length)
        finally:
            torch.set_default_dtype(torch.float32)
    names = ("first", *["layer"] * (shape.layers - 2), "last")
    fake = FakeModel(model, model, list(model.blocks), names, names)
    found = whole_step(fake, spec, mode, every_n=0, kind="cuda", rows=rows, length=length)
    return found, sum(p.numel() for p in model.parameters() if p.requires_grad)


class _Product(torch.autograd.Function):
    """MatMul4Bit of bitsandbytes 0.41.1, the rows' library, where it differs from 0.50
    (workers/profiler/emulation/fake_four_bit.py).

    It holds its input until the backward pass (`ctx.tensors = (A, B)`; 0.50 has `(None, B)`), and weights were float16
    when they were packed (`Params4bit.cuda`), so unpacking makes a float16 weight and then one of the input's type.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: FourBitLinear, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.kept, ctx.layer = x, layer
        return functional.linear(x, layer.dequantised(torch.float16).to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        weight = ctx.layer.dequantised(torch.float16).to(gradients[0].dtype)
        return torch.matmul(gradients[0], weight), None, None


class _FourBitLinear(FourBitLinear):
    def __init__(self, inputs: int, outputs: int, bias: bool, doubled: bool) -> None:
        given = nn.Parameter(torch.empty(outputs)) if bias else None
        super().__init__(inputs, outputs, given, Packing("nf4", True, torch.bfloat16, torch.bfloat16))
        self.doubled = doubled
        if not doubled:  # statistics as they are
            self.register_buffer("absmax", torch.empty(-(-inputs * outputs // BLOCK), dtype=torch.float32))

    def dequantised(self, dtype: torch.dtype) -> torch.Tensor:
        if self.doubled:
            return super().dequantised(dtype)
        return torch.empty((self.out_features, self.in_features), dtype=dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _Product.apply(x, self, self.bias)


def _linear(inputs: int, outputs: int, bias: bool, quant: str) -> nn.Module:
    if not quant:
        return nn.Linear(inputs, outputs, bias)
    return _FourBitLinear(inputs, outputs, bias, doubled=quant.endswith("-dq"))


class _Model(nn.Module):
    is_activation_checkpointing = False
    config = PretrainedConfig()

    def __init__(self, shape: Shape, quant: str, rank: int, dropout: float, length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(_Block(shape, quant, rank, dropout) for _ in range(shape.layers))
        self.norm = _norm(shape)
        self.head = _linear(shape.width, shape.vocabulary, shape.head_bias, quant)
        turned = int(shape.rotary * shape.width // shape.heads)
        for name in ("cos", "sin"):  # made again in float32 when the script sets the longest length
            self.register_buffer(name, torch.empty(length, turned, dtype=torch.float32))
        for key, parameter in self.named_parameters():
            parameter.requires_grad_("lora_" in key)
        self.named: list[torch.Tensor] = []

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor, **_: Any) -> Any:
        self.named = []
        x = self.embedding(input_ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        x = self.norm(x)
        chunks = [self.head(part) for part in x.split(HEAD_CHUNK, dim=1)]
        self.named = [chunk.float() for chunk in chunks]
        del chunks, x
        self.named[-1] = self.named[-1][:, :-1]
        targets = labels[:, 1:].split(HEAD_CHUNK, dim=1)
        losses = [
            functional.cross_entropy(
                logits.reshape(-1, logits.size(-1)), target.reshape(-1), ignore_index=-1, reduction="none"
            )
            for logits, target in zip(self.named, targets, strict=True)
        ]
        return SimpleNamespace(log_probs=-torch.cat(losses))


class _Block(nn.Module):
    def __init__(self, shape: Shape, quant: str, rank: int, dropout: float) -> None:
        super().__init__()
        self.shape = shape
        self.norm_1, self.norm_2 = _norm(shape), None if shape.shared_norm else _norm(shape)
        self.attention = _Attention(shape, quant, rank, dropout)
        self.mlp = _Mlp(shape, quant)

    def forward(self, hidden_states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = hidden_states
        normed = self.norm_1(x)
        attended = self.attention(normed, cos, sin)
        if self.shape.gated:
            x = attended + x
            return self.mlp(self.norm_2(x)) + x  # type: ignore[misc]
        other = normed if self.norm_2 is None else self.norm_2(x)
        return self.mlp(other) + attended + x


class _Attention(nn.Module):
    def __init__(self, shape: Shape, quant: str, rank: int, dropout: float) -> None:
        super().__init__()
        self.shape, self.dropout = shape, nn.Dropout(dropout)
        self.linear = _linear(shape.width, 3 * shape.width, shape.bias, quant)
        self.lora_a = nn.Parameter(torch.empty(2 * rank, shape.width))
        self.lora_b = nn.Parameter(torch.empty(2 * shape.width, rank))
        self.projection = _linear(shape.width, shape.width, shape.bias, quant)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        rows, length, width = x.shape
        heads = self.shape.heads
        fused = self._adapted(x).view(rows, length, heads, 3, width // heads).permute(0, 2, 3, 1, 4)
        query, key, value = (part.reshape(rows, heads, length, -1) for part in fused.split(1, dim=2))
        query, key = _turned(query, cos, sin), _turned(key, cos, sin)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.projection(attended.transpose(1, 2).reshape(rows, length, width))

    def _adapted(self, x: torch.Tensor) -> torch.Tensor:
        rows, length, width = x.shape
        base = self.linear(x)
        narrow = functional.linear(self.dropout(x), self.lora_a)
        wide = functional.conv1d(narrow.transpose(-2, -1), self.lora_b.unsqueeze(-1), groups=2).transpose(
            -2, -1
        )
        wide = wide.transpose(0, 1)
        zeros = wide.new_zeros((length * rows, 3 * width))
        places = torch.empty(2 * width, dtype=torch.int64)
        padded = zeros.index_copy(1, places, wide.reshape(-1, 2 * width))
        del zeros, wide
        return base + padded.view(length, rows, 3 * width).transpose(0, 1) * 2.0


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    turned = x[..., : cos.size(-1)]
    half = turned.size(-1) // 2
    crossed = torch.cat((-turned[..., half:], turned[..., :half]), dim=-1)
    made = (turned * cos + crossed * sin).to(x.dtype)
    return torch.cat((made, x[..., cos.size(-1) :]), dim=-1)


class _Mlp(nn.Module):
    def __init__(self, shape: Shape, quant: str) -> None:
        super().__init__()
        self.up = _linear(shape.width, shape.inner, shape.bias, quant)
        self.gate = _linear(shape.width, shape.inner, shape.bias, quant) if shape.gated else None
        self.down = _linear(shape.inner, shape.width, shape.bias, quant)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.gate is None:
            return self.down(functional.gelu(self.up(x)))
        gate, up = self.gate(x), self.up(x)
        return self.down(functional.silu(gate) * up)


class _RmsNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        given, x = x.dtype, x.float()
        scale = torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5)
        return (self.weight * (x * scale)).to(given)


def _norm(shape: Shape) -> nn.Module:
    return _RmsNorm(shape.width) if shape.gated else nn.LayerNorm(shape.width)
