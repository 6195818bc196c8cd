"""Peaks that others measured and published, against the projection.

Only rows that state enough, for a method and a loss that tuneyard has; each other row is listed with the reason.
LitGPT trains with its own model code, whose query+value LoRA and whose RMS norm keep other tensors than PEFT's and
transformers' do; its loss holds the logits of the whole sequence, and its bitsandbytes the input of every product. Both
are counted as their code has them, in place of TRL's loss and today's bitsandbytes; nothing is fitted to the rows.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.memory import results
from benchmarks.memory.shapes import architecture, bare, job
from jobs.errors import ProfileError, SpecError
from jobs.memory import project
from jobs.profile import MemoryProfile
from jobs.projection import BACKWARD, FORWARD, UPDATE, Projection
from jobs.rung import Rung
from workers import four_bit
from workers.tracing import trace

# finetune/lora.py of LitGPT: lm_head in chunks of 128 tokens that are all kept, chunked_cross_entropy() over them,
# whose log-softmax saves as much again for the backward pass; both in bfloat16.
LOGITS = 2 * 2
GOALS = {"lora": {"mean": 0.05, "worst": 0.12}, "qlora": {"mean": 0.08}}
# LitGPT's names, the models file's, what transformers calls the architecture (for those that the file does not say),
# and the projections that carry query and value there.
MODELS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "phi-1.5 1.3 B": (
        "phi-1_5",
        # LitGPT runs one fused GELU there (lit_gpt/model.py, GptNeoxMLP), not transformers' chain of six operations.
        {"model_type": "phi", "partial_rotary_factor": 0.5, "hidden_act": "gelu_pytorch_tanh"},
        ["q_proj", "v_proj"],
    ),
    "StableLM Alpha 3 B": (
        "stablelm-base-alpha-3b",
        {"model_type": "gpt_neox", "rotary_pct": 0.25},
        # Fused here; LitGPT's rank for query and value apart gives as many trainable parameters.
        ["query_key_value"],
    ),
    "Llama 2 7 B": ("Llama-2-7b-hf", {}, ["q_proj", "v_proj"]),
    # arXiv:2307.09288; the models file has no 13B.
    "Llama 2 13 B": (
        "Llama-2-7b-hf",
        {
            "hidden_size": 5120,
            "intermediate_size": 13824,
            "num_hidden_layers": 40,
            "num_attention_heads": 40,
            "num_key_value_heads": 40,
        },
        ["q_proj", "v_proj"],
    ),
}


@dataclass(frozen=True)
class Row:
    """A row of the file. reason: why it can't be compared, else empty."""

    number: int
    label: str
    method: str
    values: dict[str, str]
    reason: str

    @property
    def trainable(self) -> int | None:
        """Parameters that the row says were trained."""
        found = re.search(r"trainable ([\d,]+)", self.values["other_flags"])
        return int(found.group(1).replace(",", "")) if found else None


def read(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return [_row(number, values) for number, values in enumerate(csv.DictReader(file), start=2)]


def _row(number: int, values: dict[str, str]) -> Row:
    words = [values[key] for key in ("model", "method", "quant", "micro_batch", "seq_len", "grad_ckpt")]
    return Row(number, ", ".join(word for word in words if word), values["method"], values, _reason(values))


def _reason(values: dict[str, str]) -> str:
    if not values["source"].startswith("LitGPT"):
        return (
            "reserved, not allocated bytes, over batches of varying length; model and loss code of 2024 "
            "(logits of all tokens in float32), where TRL's loss keeps none"
        )
    if "FSDP" in values["grad_ckpt"]:
        return "sharded by FSDP, which tuneyard does not run"
    if values["method"] not in GOALS:
        return f"{values['method']} is no method that tuneyard runs"
    if values["quant"] not in ("", "bnb.nf4-dq"):
        return f"{values['quant']} without double quantisation, which tuneyard always uses"
    if values["measured_peak_gb"] == "OOM":
        return "ran out of memory: there is no figure"
    if values["model"] not in MODELS:
        return "its architecture is in neither transformers' nor the models file's terms"
    return ""


_PRODUCT = four_bit._Product


class _KeepingProduct(_PRODUCT):
    """MatMul4Bit of bitsandbytes 0.41.1, the rows' library: it holds its input until the backward pass.

    `ctx.tensors = (A, B)` there; 0.50 has `(None, B)`, and its input goes where nothing else needs it.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *more: Any) -> torch.Tensor:
        ctx.kept = x
        return _PRODUCT.forward(ctx, x, *more)


@contextmanager
def _their_bitsandbytes() -> Iterator[None]:
    """Trace 4-bit layers as the rows' library ran them."""
    four_bit._Product = _KeepingProduct  # type: ignore[misc]
    try:
        yield
    finally:
        four_bit._Product = _PRODUCT  # type: ignore[misc]


def profiled(row: Row, entries: dict[str, Any]) -> MemoryProfile:
    """The profile of the row's job. Raises ProfileError or SpecError."""
    name, more, targets = MODELS[row.values["model"]]
    config = {**architecture(entries[name]), **more}
    spec = job(
        config,
        {
            "kind": row.method,
            "rank": int(row.values["lora_r"]),
            "alpha": 16,
            "dropout": 0.05,  # LitGPT's default of finetune/lora.py
            "targets": targets,
            "adapter_dtype": "bfloat16",  # bf16-true holds every weight in it, adapters too
        },
        training={"sequence_length": int(row.values["seq_len"]), "autocast": "off"},
    )
    with _their_bitsandbytes():
        return trace(spec, [])


def run(path: Path, configs: Path | None) -> dict[str, Any]:
    """Compare each row that can be, list the others, and sum up."""
    rows = read(path)
    entries = json.loads(configs.read_text()) if configs else {}
    known: dict[tuple[str, str], MemoryProfile | str] = {}
    errors: list[tuple[str, float]] = []
    reasons: Counter[str] = Counter()
    print(f"{'row':>4} {'what':52} {'GB measured':>11} {'projected':>9} {'error':>7}  with TRL's loss")
    for row in rows:
        if not row.reason:
            key = (row.values["model"], row.method)
            if key not in known:
                known[key] = _traced(row, entries)
            profile = known[key]
            if isinstance(profile, str):
                row = replace(row, reason=profile)
        if row.reason:
            reasons[row.reason] += 1
            print(
                f"{row.number:4} {row.label:52} {row.values['measured_peak_gb']:>11} not compared: {row.reason}"
            )
            continue
        assert isinstance(profile, MemoryProfile)
        measured = float(row.values["measured_peak_gb"]) * 1e9
        found = project(
            replace(profile, load_bytes=0, save_bytes=0),
            Rung(0, int(row.values["micro_batch"])),
            sequence_length=int(row.values["seq_len"]),
            card=bare("cuda"),
        )
        foretold = _with_its_loss(found, row, entries)
        error = foretold / measured - 1
        errors.append((row.method, error))
        print(
            f"{row.number:4} {row.label:52} {measured / 1e9:11.2f} {foretold / 1e9:9.2f} {error:+7.2%}  "
            f"{found.allocated_bytes / 1e9:9.2f}",
            flush=True,
        )
    groups = results.by_group(errors)
    print("\n".join(results.lines(groups)))
    return {
        "benchmark": "memory",
        "part": "published peaks",
        "rows": len(rows),
        "compared": len(errors),
        "by_method": groups,
        "met": all(name in groups and results.within(groups[name], goal) for name, goal in GOALS.items()),
        "not_compared": dict(reasons.most_common()),
    }


def _with_its_loss(found: Projection, row: Row, entries: dict[str, Any]) -> int:
    """Allocated bytes with LitGPT's loss: its logits lie on top of all that the forward pass keeps."""
    vocabulary = entries[MODELS[row.values["model"]][0]]["vocab_size"]
    tokens = int(row.values["micro_batch"]) * int(row.values["seq_len"])
    logits = LOGITS * tokens * int(vocabulary)
    return max(found.phases[FORWARD] + logits, found.phases[BACKWARD], found.phases[UPDATE])


def _traced(row: Row, entries: dict[str, Any]) -> MemoryProfile | str:
    name = MODELS[row.values["model"]][0]
    if name not in entries:
        return f"{name} is not in the models file"
    try:
        profile = profiled(row, entries)
    except (ProfileError, SpecError) as error:
        return str(error)
    if row.trainable not in (None, profile.trained_count):
        return f"trains {row.trainable:,} parameters, PEFT's adapters there are {profile.trained_count:,}"
    return profile
