"""`make bench-launches`: how many kernels a layer, a micro-batch and an optimizer step launch.

Real allocator, no GPU: torch's CUDA build launches its kernels into the CUDA double, which counts them. Every method,
checkpointing and optimizer of a small llama at two depths, and other architectures; a kernel is launched once however
much it has to do, so small models show what large ones launch. The time of a launch can't be had in this way.

    python -m benchmarks.launches [--card a100-80gb] [--only llama] [--kernels]

Prints a table and, as its last line, one JSON object. Exits with 2 where the double is not there (make cuda-double),
with 1 where a case fails or jobs/memory/kernel_launches.py, which projections use, is more than 5 % off.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.common import CHECKOUT, finish, machine
from benchmarks.launches.cases import DEPTHS, MICRO_BATCHES, SHAPES, Case, cases, parts
from jobs.errors import TuneyardError, Unavailable
from jobs.memory.kernel_launches import LAUNCHES
from jobs.memory.rung import Rung
from workers.cuda_double.environment import find, variables

GOAL = 0.05
DEPTH = 24  # layers, at which jobs/memory/kernel_launches.py is judged
Kind = tuple[str, str, int, str]
WIDTH = 14
PARTS = ("micro_batch", "clipping", "update", "rest")


def answers(todo: Sequence[Case], card: str) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Each case with what its run launched, from one process for all. Raises Unavailable, UsageError."""
    found = find()
    with (
        tempfile.TemporaryDirectory(prefix="tuneyard-bench-") as folder,
        tempfile.TemporaryFile("w+") as told,
    ):
        environment = variables(found, card, trace=Path(folder))
        command = [str(found.python), "-m", "benchmarks.launches.child"]
        command.append(json.dumps([asdict(case) for case in todo]))
        process = subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=told, text=True
        )
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith('{"case"'):
                    answer = json.loads(line)
                    yield Case(**answer.pop("case")), answer
        if process.returncode:
            told.seek(0)
            last = (told.read().strip().splitlines() or ["it said nothing"])[-1]
            raise Unavailable(f"the process that counts ended with {process.returncode}: {last[:200]}")


def off_by(kind: Kind, step: float) -> float | None:
    """How far jobs/memory/kernel_launches.py is from what a step of DEPTH layers launches; None for kinds that it
    does not tell.
    """
    shape, method, every_n, optimizer = kind
    if shape != "llama" or optimizer != "adamw":
        return None
    own = LAUNCHES[method]
    told = MICRO_BATCHES * own.micro_batch(DEPTH, Rung(every_n, 1, MICRO_BATCHES)) + own.step
    return round(told / step - 1, 4)


def row(kind: Kind, counts: Mapping[int, Mapping[str, int]]) -> dict[str, Any]:
    """[of each layer, of all else] in a micro-batch, in clipping, in the update, and in the rest of a step.

    The rest is negative where the first micro-batch launches less: it has no gradients to add its own to.
    """
    shape, method, every_n, optimizer = kind
    found = parts({depth: {name: each[name] for name in PARTS} for depth, each in counts.items()})
    step = MICRO_BATCHES * found["micro_batch"].at(DEPTH) + sum(found[name].at(DEPTH) for name in PARTS[1:])
    return {
        "shape": shape,
        "method": method,
        "every_n": every_n,
        "optimizer": optimizer,
        **{name: [round(one.layer, 2), round(one.fixed, 2)] for name, one in found.items()},
        "off_by": off_by(kind, step),
    }


def head() -> str:
    words = f"{'shape':8} {'method':6} {'checkpointing':13} {'optimizer':16}"
    return words + "".join(f"{name.replace('_', '-'):>{WIDTH}}" for name in PARTS)


def line(found: Mapping[str, Any]) -> str:
    """A row for people: each part as LAYER x layers + ALL ELSE."""
    rung = "every layer" if found["every_n"] else "off"
    words = f"{found['shape']:8} {found['method']:6} {rung:13} {found['optimizer']:16}"
    return words + "".join(
        f"{f'{layer:g} L {fixed:+g}':>{WIDTH}}" for layer, fixed in (found[name] for name in PARTS)
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--card", default="a100-80gb", help="name of the catalogue: kernels differ a little")
    parser.add_argument("--only", choices=SHAPES, help="one architecture")
    parser.add_argument("--kernels", action="store_true", help="the kernels that each kind launches most")
    wanted = parser.parse_args()
    todo = [case for case in cases() if wanted.only in (None, case.shape)]
    print(machine())
    print("CUDA double: launches of torch's CUDA build, no GPU; L: layers")
    print(head())
    counts: dict[Kind, dict[int, dict[str, Any]]] = {}
    rows, failed = [], {}
    try:
        for case, answer in answers(todo, wanted.card):
            if "error" in answer:
                failed[" ".join(map(str, (*case.kind, case.layers)))] = answer["error"]
                print(f"{case.shape:8} {case.method:6} {answer['error']}", flush=True)
                continue
            own = counts.setdefault(case.kind, {})
            own[case.layers] = answer
            if len(own) == len(DEPTHS):
                rows.append(row(case.kind, own))
                print(line(rows[-1]), flush=True)
                if wanted.kernels:
                    print("\n".join(f"{count:9} {name[:100]}" for name, count in answer["kernels"].items()))
    except TuneyardError as error:
        print(f"no double to count on: {error}", file=sys.stderr)
        return 2
    worst = max((abs(found["off_by"]) for found in rows if found["off_by"] is not None), default=None)
    whole = len(rows) * len(DEPTHS) == len(todo)
    summary = {"benchmark": "launches", "card": wanted.card, "rows": rows, "failed": failed, "worst": worst}
    return finish({**summary, "met": whole and (worst is None or worst <= GOAL)})


if __name__ == "__main__":
    sys.exit(main())
