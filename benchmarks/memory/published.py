"""Peaks that others measured and published, against two projections.

Only rows that state enough; each other row is listed with the reason. LitGPT trains with its own model code, its own
LoRA and loss, and a bitsandbytes of its time, so a row is projected twice: as TRL, transformers and PEFT run the same
job today (the closed form that jobs are placed by), and with the row's own code (benchmarks/memory/litgpt.py, traced
through by the same tracer). Only the second says how right the tracing is; nothing is fitted to the rows.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.memory import litgpt, results
from benchmarks.memory.shapes import architecture, bare, job
from jobs.cards import find_card
from jobs.errors import ProfileError, SpecError
from jobs.jobfile.spec import JobSpec
from jobs.memory.profile import MemoryProfile
from jobs.memory.project import project
from jobs.memory.rung import Rung
from workers.profiler.trace import trace

GOALS = {"lora": {"mean": 0.05, "worst": 0.12}, "qlora": {"mean": 0.08}}
CARDS = {"1 x A100-40GB": "a100-40gb"}
DROPOUT = 0.05  # LitGPT's default of finetune/lora.py


@dataclass(frozen=True)
class Model:
    """A model of the rows: its entry in the models file, what that does not say, and LitGPT's own shape of it.

    config: in transformers' terms; targets: the projections that carry query and value there; theirs: of litgpt.Shape.
    """

    entry: str
    config: dict[str, Any]
    targets: list[str]
    theirs: dict[str, Any]


LLAMA = {"gated": True}
MODELS = {
    "phi-1.5 1.3 B": Model(
        "phi-1_5",
        {"model_type": "phi", "partial_rotary_factor": 0.5},
        ["q_proj", "v_proj"],
        {"gated": False, "rotary": 0.5, "bias": True, "head_bias": True, "shared_norm": True},
    ),
    "StableLM Alpha 3 B": Model(
        "stablelm-base-alpha-3b",
        {"model_type": "gpt_neox", "rotary_pct": 0.25},
        # Fused in transformers; LitGPT's rank for query and value apart gives as many trainable parameters.
        ["query_key_value"],
        {"gated": False, "rotary": 0.25, "bias": True},
    ),
    "Llama 2 7 B": Model("Llama-2-7b-hf", {}, ["q_proj", "v_proj"], LLAMA),
    # arXiv:2307.09288; the models file has no 13B.
    "Llama 2 13 B": Model(
        "Llama-2-7b-hf",
        {
            "hidden_size": 5120,
            "intermediate_size": 13824,
            "num_hidden_layers": 40,
            "num_attention_heads": 40,
            "num_key_value_heads": 40,
        },
        ["q_proj", "v_proj"],
        LLAMA,
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
    if values["model"] not in MODELS:
        return "its architecture is in neither transformers' nor the models file's terms"
    return ""


@dataclass
class _Known:
    """What was traced so far, by model and method: rows of other batches share it."""

    entries: dict[str, Any]
    profiles: dict[tuple[str, str], MemoryProfile | str] = field(default_factory=dict)

    def config(self, row: Row) -> dict[str, Any]:
        model = MODELS[row.values["model"]]
        return {**architecture(self.entries[model.entry]), **model.config}

    def spec(self, row: Row) -> JobSpec:
        method = {
            "kind": row.method,
            "rank": int(row.values["lora_r"]),
            "alpha": 16,
            "dropout": DROPOUT,
            "targets": MODELS[row.values["model"]].targets,
            "adapter_dtype": "bfloat16",  # bf16-true holds every weight in it, adapters too
        }
        training = {"sequence_length": int(row.values["seq_len"]), "autocast": "off"}
        return job(self.config(row), method, training=training)

    def today(self, row: Row) -> int | str:
        """Allocated bytes as TRL runs the row's job today, or why there are none."""
        if row.values["quant"] == "bnb.nf4":
            return "-"  # without double quantisation, which tuneyard always uses
        key = (row.values["model"], row.method)
        if key not in self.profiles:
            self.profiles[key] = self._profile(row)
        profile = self.profiles[key]
        if isinstance(profile, str):
            return profile
        found = project(
            replace(profile, load_bytes=0, save_bytes=0),
            Rung(0, int(row.values["micro_batch"])),
            sequence_length=int(row.values["seq_len"]),
            card=bare("cuda"),
        )
        return found.allocated_bytes

    def _profile(self, row: Row) -> MemoryProfile | str:
        try:
            return trace(self.spec(row), [])
        except (ProfileError, SpecError) as error:
            return str(error)

    def theirs(self, row: Row) -> tuple[int, int]:
        """Peak bytes with the row's own code, and the parameters that it trains."""
        config = self.config(row)
        shape = litgpt.Shape(
            layers=config["num_hidden_layers"],
            width=config["hidden_size"],
            inner=config["intermediate_size"],
            heads=config["num_attention_heads"],
            vocabulary=config["vocab_size"],
            **MODELS[row.values["model"]].theirs,
        )
        return litgpt.peak_bytes(
            shape,
            self.spec(row),
            quant=row.values["quant"],
            rank=int(row.values["lora_r"]),
            dropout=DROPOUT,
            rows=int(row.values["micro_batch"]),
            length=int(row.values["seq_len"]),
        )


def run(path: Path, configs: Path) -> dict[str, Any]:
    """Compare each row that can be, list the others, and sum up."""
    known = _Known(json.loads(configs.read_text()))
    own: list[tuple[str, float]] = []
    today: list[tuple[str, float]] = []
    out_of_memory: list[bool] = []
    reasons: Counter[str] = Counter()
    rows = read(path)
    print(
        f"{'row':>4} {'what':52} {'GB measured':>11} {'own code':>8} {'error':>7} {'TRL today':>9} {'error':>7}"
    )
    for row in rows:
        reason = row.reason or _unlisted(row, known.entries)
        theirs, trained = (0, None) if reason else known.theirs(row)
        if not reason and row.trainable not in (None, trained):
            reason = f"trains {row.trainable:,} parameters, its own code as followed here {trained:,}"
        words = f"{row.number:4} {row.label:52} {row.values['measured_peak_gb']:>11}"
        if reason:
            reasons[reason] += 1
            print(f"{words} not compared: {reason}")
        elif row.values["measured_peak_gb"] == "OOM":
            card = find_card(CARDS[row.values["gpu"]])
            out_of_memory.append(theirs > card.memory_bytes)
            verdict = "more than its card has" if out_of_memory[-1] else "WOULD HAVE FITTED"
            print(f"{words} {theirs / 1e9:8.2f} {verdict}", flush=True)
        else:
            measured, now = float(row.values["measured_peak_gb"]) * 1e9, known.today(row)
            own.append((row.method, theirs / measured - 1))
            words += f" {theirs / 1e9:8.2f} {own[-1][1]:+7.2%}"
            if isinstance(now, int):
                today.append((row.method, now / measured - 1))
                words += f" {now / 1e9:9.2f} {today[-1][1]:+7.2%}"
            print(words if isinstance(now, int) else f"{words} {now:>9}", flush=True)
    groups, others = results.by_group(own), results.by_group(today)
    print(
        "with the row's own code",
        *results.lines(groups),
        "as TRL runs it today",
        *results.lines(others),
        sep="\n",
    )
    return {
        "benchmark": "memory",
        "part": "published peaks",
        "rows": len(rows),
        "compared": len(own),
        "by_method": groups,
        "as_trl_runs_it_today": others,
        "ran_out_of_memory": len(out_of_memory),
        "ran_out_as_projected": sum(out_of_memory),
        "met": all(name in groups and results.within(groups[name], goal) for name, goal in GOALS.items())
        and all(out_of_memory),
        "not_compared": dict(reasons.most_common()),
    }


def _unlisted(row: Row, entries: dict[str, Any]) -> str:
    name = MODELS[row.values["model"]].entry
    return "" if name in entries else f"{name} is not in the models file"
