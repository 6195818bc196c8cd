"""`make bench-memory`: how right the projection is, and what it is good for.

    python -m benchmarks.memory [--count N] [--seed N] [--seconds S] [--processes N] [--configs FILE]
                                closed form against full-depth traces of random configurations
    python -m benchmarks.memory --real N          against real training steps on the CPU
    python -m benchmarks.memory --real-scans N    the same of models whose layers scan their tokens
    python -m benchmarks.memory --real-trainers N the same of dpo, kto and reward
    python -m benchmarks.memory --published FILE  against peaks that others measured and published
    python -m benchmarks.memory --published FILE --litgpt FOLDER
                                LitGPT's own code on the CUDA double against the same; FOLDER: docs/accuracy.md
    python -m benchmarks.memory --founding        which configurations give the vendor's founding table
    python -m benchmarks.memory --ladder          tokens a second against checkpointing always, and never
    python -m benchmarks.memory --speed           projections a second on one core
    python -m benchmarks.memory --double [--sweeps N] [--edges N] [--fit] [--plot FILE]
                                against torch's real CUDA allocator, in front of the CUDA double (make cuda-double):
                                figures of the rows that there are, after so many more; --fit:
                                jobs/memory/allocator's tables

Prints a table and, as its last line, one JSON object; exits with 1 where a goal is missed. FILE of --configs
holds architectures by name; benchmarks/memory/model_configs.json without it.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.memory import closed, founding, pays, published, real, speed
from benchmarks.memory.double import command
from benchmarks.memory.double import published as on_the_double
from benchmarks.memory.shapes import CONFIGS, job, shapes
from workers.profiler.trace import trace

LARGEST = 15e9  # "14B" models have up to 14.8e9 parameters


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=300, help="configurations to draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1800.0, help="start nothing after this long")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--configs", type=Path, default=CONFIGS, help="JSON file of architectures by name")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--real", type=int, metavar="N", help="real training runs on the CPU")
    parts.add_argument("--real-scans", type=int, metavar="N", help="the same of layers that scan")
    parts.add_argument("--real-trainers", type=int, metavar="N", help="the same of dpo, kto and reward")
    parts.add_argument("--published", type=Path, metavar="FILE", help="CSV of published peaks")
    parser.add_argument("--litgpt", type=Path, metavar="FOLDER", help="of --published: LitGPT's code, to run")
    parts.add_argument("--founding", action="store_true", help="the vendor's founding table")
    parts.add_argument("--ladder", action="store_true", help="what the ladder pays")
    parts.add_argument("--speed", action="store_true", help="projections a second on one core")
    parts.add_argument("--double", action="store_true", help="the real allocator, on the CUDA double")
    parser.add_argument("--sweeps", type=int, default=0, metavar="N", help="of --double: runs to add first")
    parser.add_argument("--edges", type=int, default=0, metavar="N", help="of --double: edges to run first")
    parser.add_argument(
        "--fit", action="store_true", help="of --double: print jobs/memory/allocator's tables"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="of --double: draw the judged half")
    wanted = parser.parse_args()
    for name in ("count", "real", "real_scans", "real_trainers", "processes"):
        if getattr(wanted, name) is not None and getattr(wanted, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    for file in (wanted.configs, wanted.published):
        if file is not None and not file.is_file():
            parser.error(f"{file} is not there")
    if wanted.litgpt is not None and not (wanted.litgpt / "lit_gpt").is_dir():
        parser.error(f"{wanted.litgpt} has no lit_gpt; docs/accuracy.md says how to have it")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    summary = _part(wanted)
    print(json.dumps(summary))
    return 0 if summary["met"] else 1


def _part(wanted: argparse.Namespace) -> dict[str, Any]:
    if wanted.double:
        return command.run(
            sweeps=wanted.sweeps,
            edge_runs=wanted.edges,
            seed=wanted.seed,
            seconds=wanted.seconds,
            fits=wanted.fit,
            plot=wanted.plot,
        )
    if wanted.speed:
        config = shapes(wanted.configs, LARGEST)["Mistral-7B-v0.3"]
        return speed.run({method: trace(job(config, method), []) for method in ("full", "lora")})
    if wanted.real:
        return real.run(wanted.real, seed=wanted.seed, seconds=wanted.seconds)
    if wanted.real_scans:
        return real.run(wanted.real_scans, seed=wanted.seed, seconds=wanted.seconds, what="scans")
    if wanted.real_trainers:
        return real.run(wanted.real_trainers, seed=wanted.seed, seconds=wanted.seconds, what="trainers")
    if wanted.published and wanted.litgpt:
        return on_the_double.run(wanted.published, wanted.litgpt)
    if wanted.published:
        return published.run(wanted.published, wanted.configs)
    known = shapes(wanted.configs, LARGEST)
    if wanted.founding:
        return founding.run(known)
    if wanted.ladder:
        return pays.run(known, seed=wanted.seed, processes=wanted.processes)
    return closed.run(
        known, count=wanted.count, seed=wanted.seed, seconds=wanted.seconds, processes=wanted.processes
    )


if __name__ == "__main__":
    sys.exit(main())
