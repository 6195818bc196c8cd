"""`make bench-coverage`: which causal language models can be traced, and why the others can't.

Every model type that transformers' AutoModelForCausalLM knows is traced as a job's would be (full fine-tune, every
pass and the check of a deeper model), in the shape of its own default config, each in a child process with limits;
then the architectures of a models file, if there is one. Fake tensors: no memory is taken.

    python -m benchmarks.coverage [--types llama,mixtral] [--configs FILE] [--seconds N] [--table FILE]

The last line is one JSON object: how many can be traced, and the others by reason.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import multiprocessing
import os
import resource
import signal
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from benchmarks.memory.shapes import CONFIGS, listed
from jobs.jobfile.spec import JobSpec
from jobs.messages.reports import TraceRequest
from jobs.units import GiB
from workers.profiler.trace import answer

MEMORY_BYTES = 8 * GiB
# Default configs that can't be used as they are: what their class leaves out, from the models' published configs.
COMPLETED: dict[str, dict[str, Any]] = {
    "hunyuan_v1_moe": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "deepseek_v2": {"num_experts_per_tok": 6, "moe_intermediate_size": 1408},
    "hunyuan_v1_dense": {"head_dim": 128},
    "lfm2_moe": {
        "num_hidden_layers": 24,
        "layer_types": ["full_attention" if n in (2, 6, 10, 14, 18, 21) else "conv" for n in range(24)],
    },
    "ministral": {"head_dim": 128},
}


@dataclass(frozen=True)
class Row:
    """One architecture. kinds: of layers, 1 where all are alike; error: empty where it was traced."""

    name: str
    model_type: str
    attention: str
    seconds: float
    layers: int
    kinds: int
    error: str


def known_types() -> list[tuple[str, dict[str, Any]]]:
    names = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    return [(name, {"model_type": name, **COMPLETED.get(name, {})}) for name in names]


def traced(name: str, config: dict[str, Any], seconds: float) -> Row:
    """The architecture's row: with sdpa, and with eager attention where it can't do that."""
    for attention in ("sdpa", "eager"):
        found, took = _in_child(config, attention, seconds)
        if "use eager" not in found["error"]:
            break
    return Row(name, config["model_type"], attention, took, found["layers"], found["kinds"], found["error"])


def _in_child(config: dict[str, Any], attention: str, seconds: float) -> tuple[dict[str, Any], float]:
    """What a child says of the architecture, and the processor seconds that it took."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = multiprocessing.get_context("fork").Process(
        target=_child, args=(theirs, config, attention, seconds)
    )
    child.start()
    theirs.close()
    try:
        found: dict[str, Any] = ours.recv()
    except EOFError:
        child.join()
        late = child.exitcode in (-signal.SIGXCPU, -signal.SIGKILL)
        why = (
            f"did not end within {seconds:.0f}s of one core"
            if late
            else f"ended with exit code {child.exitcode}"
        )
        found = {"error": f"the trace {why}", "layers": 0, "kinds": 0}
    child.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _child(out: Connection, config: dict[str, Any], attention: str, seconds: float) -> None:
    # Processor time: what else runs on this machine must not decide.
    resource.setrlimit(resource.RLIMIT_CPU, (round(seconds), round(seconds) + 2))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    spec = JobSpec.model_validate(
        {
            "model": {"config": config, "tokenizer": "none", "attention": attention},
            "data": "none",
            "method": "full",
            "training": {"sequence_length": 512},
        }
    )
    found = answer(TraceRequest(key="coverage", spec=spec))
    profile = found.profile or {}
    order = profile.get("order") or ["layer"]
    kinds = len({name for name in order if name.startswith("layer")})
    out.send({"error": found.error or "", "layers": profile.get("layers", 0), "kinds": kinds})
    out.close()


def table(rows: list[Row]) -> Iterator[str]:
    """The rows as Markdown: what was traced in one line a group, what was not with its reason."""
    done = [row for row in rows if not row.error]
    yield f"Traced: {len(done)} of {len(rows)}."
    yield ""
    yield ", ".join(f"{row.name} ({row.kinds} kinds)" if row.kinds > 1 else row.name for row in done)
    yield ""
    yield "| not traced | why |"
    yield "|---|---|"
    for row in rows:
        if row.error:
            yield f"| {row.name} | {row.error.replace('|', '/')} |"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--types", help="model types, by comma; all without it")
    parser.add_argument("--configs", type=Path, help="a models file; the usual one without --types")
    parser.add_argument("--seconds", type=float, default=60.0, help="of one core, for one trace")
    parser.add_argument("--table", type=Path, help="write the table as Markdown to this file")
    wanted = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # children share what was imported and need not look through it
    chosen = set(wanted.types.split(",")) if wanted.types else None
    asked = [one for one in known_types() if chosen is None or one[0] in chosen]
    path = wanted.configs or (CONFIGS if chosen is None else None)
    shapes = listed(path) if path else []
    rows = []
    print(f"{'architecture':28} {'type':20} {'attn':5} {'s':>5} {'layers':>6} {'kinds':>5}  result")
    for name, config in [*asked, *shapes]:
        row = traced(name, config, wanted.seconds)
        rows.append(row)
        print(
            f"{name:28} {row.model_type:20} {row.attention:5} {row.seconds:5.1f} {row.layers:6} {row.kinds:5}  "
            f"{row.error or 'traced'}",
            flush=True,
        )
    if wanted.table:
        wanted.table.write_text("\n".join(table(rows)) + "\n")
    refused: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.error:
            refused[row.error.replace(row.model_type, "TYPE")[:160]].append(row.name)
    summary = {
        "benchmark": "coverage",
        "types": len(asked),
        "types_traced": sum(not row.error for row in rows[: len(asked)]),
        "configs": len(shapes),
        "configs_traced": sum(not row.error for row in rows[len(asked) :]),
        "seconds_median": sorted(row.seconds for row in rows)[len(rows) // 2] if rows else None,
        "not_traced": refused,
    }
    print(json.dumps(summary))
    return 0 if rows and any(not row.error for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
