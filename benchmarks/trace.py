"""How long a memory profile takes, traced and kept: `make bench-trace`.

Traced: the whole child process (imports, trace, check, answer) for a 7B shape, by method, in processor seconds of one
core, the fewest of the rounds: what else the machine does counts for a wall clock, and some of it here too. Kept: the
same profile from a store of its own, from the row to the rung that is chosen, without anything remembered.

    python -m benchmarks.trace [--rounds N] [--methods full,lora,qlora]

The last line is one JSON object. The exit code is 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from typing import Any

from benchmarks.common import finish, machine
from jobs.cards import find_card
from jobs.jobfile.spec import JobSpec
from jobs.memory.ladder import choose
from jobs.memory.profile import MemoryProfile, trace_key
from jobs.messages.reports import TraceRequest
from orchestrator.store import Store, upgrade
from workers.agent.profile_child import trace_in_child
from workers.machine import stack

TRACE_AT_MOST_S, KEPT_AT_MOST_MS, CHOOSE_AT_MOST_MS = 10.0, 10.0, 1.0
SHAPE = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}
METHODS: dict[str, Any] = {"full": "full", "lora": {"kind": "lora", "dropout": 0.05}, "qlora": "qlora"}
REPEATS = 50


def job(method: str) -> JobSpec:
    return JobSpec.model_validate(
        {
            "model": {"config": SHAPE, "tokenizer": "none"},
            "data": "none",
            "method": METHODS[method],
            "training": {"sequence_length": 2048, "global_batch": 16},
        }
    )


def traced(request: TraceRequest) -> tuple[dict[str, Any], float]:
    """The profile, and the processor seconds of the child that traced it. Ends the benchmark where there is none."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = trace_in_child(request)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if found.profile is None:
        sys.exit(f"no profile: {found.error}")
    return found.profile, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def kept(spec: JobSpec, profile: dict[str, Any]) -> tuple[float, float]:
    """Processor milliseconds from the store's row to a chosen rung, and of choosing alone, in the median."""
    libraries, card = stack(), find_card("rtx4090")  # of the host, as the server knows them
    key = trace_key(spec, libraries, None)
    with tempfile.TemporaryDirectory(prefix="tuneyard-bench-") as folder:
        url = f"sqlite:///{folder}/bench.db"
        upgrade(url)
        store = Store(url)
        try:
            store.want_profile(key, spec.model_dump(mode="json", exclude_unset=True), time.time())
            store.put_profile(key, profile, time.time())
            whole, alone = [], []
            for _ in range(REPEATS):
                began = time.process_time()
                row = store.profiles({trace_key(spec, libraries, None)})[key]
                made = MemoryProfile.from_dict(row.profile or {})
                choose(made, spec, card)
                whole.append(time.process_time() - began)
                began = time.process_time()
                choose(made, spec, card)
                alone.append(time.process_time() - began)
        finally:
            store.close()
    return 1000 * statistics.median(whole), 1000 * statistics.median(alone)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", default=",".join(METHODS), help="by comma")
    wanted = parser.parse_args()
    methods = wanted.methods.split(",")
    where = machine()
    print(where)
    seconds: dict[str, float] = {}
    profile: dict[str, Any] = {}
    for _ in range(wanted.rounds):
        for method in methods:
            profile, took = traced(TraceRequest(key=method, spec=job(method)))
            seconds[method] = min(took, seconds.get(method, took))
            print(f"{method:6} {took:6.1f} s", flush=True)
    kept_ms, choose_ms = kept(job(methods[-1]), profile)
    print(f"kept   {kept_ms:6.1f} ms, of which choosing {choose_ms:.2f} ms")
    met = max(seconds.values()) < TRACE_AT_MOST_S and kept_ms < KEPT_AT_MOST_MS
    return finish(
        {
            "benchmark": "trace",
            "machine": where,
            "trace_s": {name: round(took, 2) for name, took in seconds.items()},
            "kept_ms": round(kept_ms, 2),
            "choose_ms": round(choose_ms, 3),
            "met": met and choose_ms < CHOOSE_AT_MOST_MS,
        }
    )


if __name__ == "__main__":
    sys.exit(main())
