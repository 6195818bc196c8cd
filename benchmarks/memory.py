"""`make bench-memory`: the closed form against traces of the full depth, over real model shapes.

For each model drawn, a profile is made from three layers (timed, imports apart), then the whole model is
traced through at shapes and rungs drawn at random, and its peak compared with what project() says. Fake
tensors: no memory is taken.

    python -m benchmarks.memory [--configs FILE] [--count N] [--seed N]

FILE holds architectures by name, as in the repository of shapes that this project is checked against; without
one, a few common shapes that stand below. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch._subclasses.fake_tensor import FakeTensorMode

from jobs.cards import Card
from jobs.errors import ProfileError, SpecError
from jobs.memory import Rung, project
from jobs.profile import CardKind, MemoryProfile
from jobs.spec import JobSpec
from workers.fake_model import FakeModel, build, load_config
from workers.tracing import trace, whole_step

METHODS: tuple[Any, ...] = ("full", {"kind": "lora", "rank": 16, "dropout": 0.05})
STEPS_A_MODEL = 3
PROJECTIONS = 1000
# What the shapes' file calls by other names than transformers does, and what it has for reference only.
RENAMED = {"max_position": "max_position_embeddings"}
SHAPE_KEYS = (
    "model_type hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
    "vocab_size tie_word_embeddings sliding_window max_position attention_bias"
)
COMMON: dict[str, dict[str, Any]] = {
    "7B, grouped heads": {
        "model_type": "mistral",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32768,
    },
    "1B, tied": {
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
    },
    "0.6B, normed heads": {
        "model_type": "qwen3",
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
}


@dataclass(frozen=True)
class Row:
    """One comparison. error: (projected - traced) / traced; seconds are of the full-depth trace."""

    model: str
    method: str
    card: str
    rung: Rung
    length: int
    phase: str
    traced_bytes: int
    error: float
    seconds: float


def shapes(path: Path | None) -> dict[str, dict[str, Any]]:
    """Dense architectures by name."""
    if path is None:
        return COMMON
    found = {}
    for name, entry in json.loads(path.read_text()).items():
        if entry.get("model_type") and not entry.get("num_experts"):
            chosen = {key: entry[key] for key in SHAPE_KEYS.split() if entry.get(key) is not None}
            found[name] = {RENAMED.get(key, key): value for key, value in chosen.items()}
    return found


def spec_for(config: dict[str, Any], method: Any, attention: str) -> JobSpec:
    return JobSpec.model_validate(
        {
            "model": {"config": config, "tokenizer": "none", "attention": attention},
            "data": "none",
            "method": method,
            "training": {"sequence_length": 512},
        }
    )


def compare(name: str, spec: JobSpec, profile: MemoryProfile, draw: random.Random) -> Iterator[Row]:
    """The profile against STEPS_A_MODEL full-depth traces."""
    mode = FakeTensorMode()
    whole: FakeModel = build(spec, load_config(spec, []), mode, copies=None)
    for _ in range(STEPS_A_MODEL):
        card: CardKind = draw.choice(["cuda", "cuda", "cpu"])
        rung = Rung(draw.choice([0, 0, 1, 1, 2, 3]), draw.choice([1, 2, 4, 8]))
        length = draw.choice([256, 512, 1024, 2000])
        started = time.perf_counter()
        traced = whole_step(
            whole, spec, mode, every_n=rung.every_n, kind=card, rows=rung.micro_batch, length=length
        )
        seconds = time.perf_counter() - started
        bare = Card("bare", 1, 1e12, 1e14, 0, "live bytes alone", card)
        found = project(profile, rung, sequence_length=length, card=bare)
        error = (found.allocated_bytes - traced) / traced
        yield Row(name, spec.method.kind, card, rung, length, found.phase, traced, error, seconds)


def projection_us(profile: MemoryProfile) -> float:
    """Microseconds of one project() call."""
    bare = Card("bare", 1, 1e12, 1e14, 0, "live bytes alone")
    started = time.perf_counter()
    for index in range(PROJECTIONS):
        project(profile, Rung(index % 3, 1 + index % 8), sequence_length=1024, card=bare)
    return (time.perf_counter() - started) / PROJECTIONS * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configs", type=Path, help="JSON file of architectures by name")
    parser.add_argument("--count", type=int, default=6, help="models to draw")
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    warnings.filterwarnings("ignore")
    draw = random.Random(wanted.seed)
    known = shapes(wanted.configs)
    rows: list[Row] = []
    traces_s: list[float] = []
    refused: dict[str, str] = {}
    calls_us: list[float] = []
    print(
        f"{'model':26} {'method':6} {'card':4} {'rung':22} {'length':>6} {'phase':14} {'traced GiB':>10} {'error':>7} s"
    )
    for index in range(wanted.count):
        name = draw.choice(sorted(known))
        method = METHODS[index % len(METHODS)]
        # Gemma 2 caps its attention logits, which only eager attention can do.
        spec = spec_for(known[name], method, "eager" if known[name]["model_type"] == "gemma2" else "sdpa")
        started = time.perf_counter()
        try:
            profile = trace(spec, [])
        except (ProfileError, SpecError) as error:
            refused[name] = str(error)
            print(f"{name:26} refused: {error}")
            continue
        traces_s.append(time.perf_counter() - started)
        calls_us.append(projection_us(profile))
        for row in compare(name, spec, profile, draw):
            rows.append(row)
            print(
                f"{row.model:26} {row.method:6} {row.card:4} {row.rung.label:22} {row.length:6} {row.phase:14} "
                f"{row.traced_bytes / 2**30:10.2f} {row.error:+7.2%} {row.seconds:.1f}",
                flush=True,
            )
    errors = [abs(row.error) for row in rows]
    print(
        json.dumps(
            {
                "benchmark": "memory",
                "seed": wanted.seed,
                "models": len({row.model for row in rows}),
                "comparisons": len(rows),
                "mean_abs_error": round(statistics.fmean(errors), 5) if errors else None,
                "worst_abs_error": round(max(errors), 5) if errors else None,
                "within_3_percent": sum(error <= 0.03 for error in errors),
                "profile_s_median": round(statistics.median(traces_s), 2) if traces_s else None,
                "profile_s_worst": round(max(traces_s), 2) if traces_s else None,
                "project_us_median": round(statistics.median(calls_us), 1) if calls_us else None,
                "refused": refused,
            }
        )
    )
    return 0 if errors and max(errors) <= 0.03 else 1


if __name__ == "__main__":
    sys.exit(main())
