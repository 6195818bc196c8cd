"""Published peaks against LitGPT's own code on the CUDA double: real allocator, real dispatch, no GPU."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.memory import results
from benchmarks.memory.published import CARDS, Row, read
from workers.cuda_double.environment import CHECKOUT, find, variables

GOAL = {"worst": 0.005}
# Names of lit_gpt/config.py.
NAMES = {
    "phi-1.5 1.3 B": "phi-1_5",
    "StableLM Alpha 3 B": "stablelm-base-alpha-3b",
    "Llama 2 7 B": "Llama-2-7b-hf",
    "Llama 2 13 B": "Llama-2-13b-hf",
}
LONGEST_S = 300


def run(path: Path, folder: Path) -> dict[str, Any]:
    """Run each LoRA row of one card whose base is not packed. folder: of LitGPT's code."""
    errors: list[float] = []
    ran_out: list[bool] = []
    print(f"{'row':>4} {'what':44} {'GB measured':>11} {'on the double':>13} {'error':>7}")
    for row in read(path):
        if row.reason or row.method != "lora" or row.values["model"] not in NAMES:
            continue
        words = f"{row.number:4} {row.label:44} {row.values['measured_peak_gb']:>11}"
        found = _ran(row, folder)
        if row.values["measured_peak_gb"] == "OOM":
            ran_out.append(found is None)
            print(f"{words} {'runs out' if found is None else 'WOULD HAVE RUN':>13}", flush=True)
        elif found is None:
            raise RuntimeError(f"row {row.number} ran out of memory on the double")
        else:
            errors.append(found / (float(row.values["measured_peak_gb"]) * 1e9) - 1)
            print(f"{words} {found / 1e9:13.3f} {errors[-1]:+7.2%}", flush=True)
    figures = results.figures(errors)
    print("\n".join(results.lines({"lora": figures})))
    return {
        "benchmark": "memory",
        "part": "published peaks, LitGPT's own code on the CUDA double: real allocator, no GPU",
        **figures,
        "ran_out_of_memory": len(ran_out),
        "ran_out_as_published": sum(ran_out),
        "met": bool(errors) and figures["worst"] <= GOAL["worst"] and all(ran_out),
    }


def _ran(row: Row, folder: Path) -> int | None:
    """Allocated bytes at the peak; None where memory ran out."""
    environment, values = find(), row.values
    command = [str(environment.python), "-W", "ignore", "-m", "benchmarks.memory.double.litgpt"]
    command += [str(folder.absolute()), NAMES[values["model"]], values["micro_batch"], values["seq_len"]]
    done = subprocess.run(
        command,
        cwd=CHECKOUT,
        env=variables(environment, CARDS[values["gpu"]]) | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
    )
    if "torch.OutOfMemoryError" in done.stderr:
        return None
    if done.returncode or not done.stdout.strip():
        raise RuntimeError(f"row {row.number}: {done.stderr[-2000:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if row.trainable not in (None, answer["trained"]):
        raise RuntimeError(f"row {row.number} trains {row.trainable}, LitGPT's code here {answer['trained']}")
    return int(answer["allocated_bytes"])
