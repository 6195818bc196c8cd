"""The closed form against full-depth traces, over random configurations.

A draw is a model, a method and STEPS shapes and rungs; its profile is made from a few layers (timed), then the whole
model is traced through at each shape. Everything is drawn from the seed before anything is traced, so what is drawn
does not depend on how far the time reached.
"""

from __future__ import annotations

import gc
import multiprocessing
import random
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.memory import results
from benchmarks.memory.shapes import bare, job
from jobs.cards import CardKind
from jobs.errors import ProfileError, SpecError
from jobs.jobfile.spec import JobSpec
from jobs.memory.ladder import useful_n
from jobs.memory.profile import MemoryProfile
from jobs.memory.project import project, project_many
from jobs.memory.rung import Rung
from workers.profiler.fake_model import build, load_config
from workers.profiler.trace import trace, whole_step

STEPS = 5
PROJECTIONS = 4000
GOALS = {"median": 0.01, "worst": 0.03}


@dataclass(frozen=True)
class Step:
    """One shape and rung to trace through."""

    card: CardKind
    rung: Rung
    length: int


@dataclass(frozen=True)
class Draw:
    """A job to profile once, and the steps to compare."""

    model: str
    method: str
    spec: JobSpec
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Row:
    """One comparison. error: projected / traced - 1."""

    model: str
    method: str
    step: Step
    phase: str
    traced_bytes: int
    error: float


@dataclass(frozen=True)
class Done:
    """What came of a draw. refused: why it could not be profiled; seconds: of profiling, imports apart."""

    draw: Draw
    rows: tuple[Row, ...] = ()
    refused: str = ""
    seconds: float = 0.0
    projection_us: float = 0.0


def draws(known: dict[str, dict[str, Any]], count: int, seed: int) -> list[Draw]:
    """Draws that make `count` comparisons, STEPS each, the methods in turn."""
    chance = random.Random(seed)
    made: list[Draw] = []
    for first in range(0, count, STEPS):
        name = chance.choice(sorted(known))
        method, values, model = _method(chance, len(made))
        packing = chance.random() < 0.15
        spec = job(known[name], values, model=model, training={"packing": packing})
        steps = tuple(_step(chance, known[name]) for _ in range(min(STEPS, count - first)))
        made.append(Draw(name, f"{method}{', packed' if packing else ''}", spec, steps))
    return made


def _method(chance: random.Random, index: int) -> tuple[str, Any, dict[str, Any]]:
    """Name, method section and additions to the model section."""
    rank = chance.choice([4, 8, 16, 32, 64])
    masters = {"dtype": "float32"} if chance.random() < 0.2 else {}
    lora: dict[str, Any] = {"kind": "lora", "rank": rank, "dropout": 0.05}
    kinds: list[tuple[str, Any, dict[str, Any]]] = [
        ("full", "full", masters),
        ("lora, dropout", lora, masters),
        ("lora", {**lora, "dropout": 0.0}, masters),
        ("dora", {**lora, "dora": True, "dropout": chance.choice([0.0, 0.05])}, {}),
        ("qlora", {**lora, "kind": "qlora", "dropout": chance.choice([0.0, 0.05])}, {}),
    ]
    name, values, model = kinds[index % len(kinds)]
    return f"{name}{', float32' if model else ''}", values, model


def _step(chance: random.Random, config: dict[str, Any]) -> Step:
    longest = min(4096, config.get("max_position_embeddings", 4096))
    between = useful_n(config["num_hidden_layers"])[1:]
    every_n = chance.choice([0, 1, chance.choice(between)])
    card: CardKind = chance.choice(["cuda", "cuda", "cpu"])
    return Step(card, Rung(every_n, chance.choice([1, 2, 3, 4, 8])), chance.randint(100, longest))


def compare(draw: Draw) -> Done:
    """The draw's profile against traces of the whole model."""
    warnings.filterwarnings("ignore")
    started = time.perf_counter()
    try:
        profile = trace(draw.spec, [])
    except (ProfileError, SpecError) as error:
        return Done(draw, refused=str(error))
    seconds = time.perf_counter() - started
    mode = FakeTensorMode()
    whole = build(draw.spec, load_config(draw.spec, []), mode, copies=None)
    # A trace is of a training step: what loading and saving take beside it is not in it.
    of_step = replace(profile, load_bytes=0, save_bytes=0)
    rows = []
    for step in draw.steps:
        # TRL lays packed rows end to end (trl 1.16, DataCollatorForLanguageModeling, padding_free).
        size, length = step.rung.micro_batch, step.length
        if draw.spec.training.packing:
            size, length = 1, size * length
        traced = whole_step(
            whole,
            draw.spec,
            mode,
            every_n=step.rung.every_n,
            kind=step.card,
            rows=size,
            length=length,
        )
        found = project(of_step, step.rung, sequence_length=step.length, card=bare(step.card))
        off = found.allocated_bytes / traced - 1
        rows.append(Row(draw.model, draw.method, step, found.phase, traced, off))
    return Done(draw, tuple(rows), "", seconds, projection_us(profile))


def projection_us(profile: MemoryProfile) -> float:
    """Microseconds of one projection among many."""
    rungs = [Rung(index % 3, 1 + index % 8) for index in range(PROJECTIONS)]
    card = bare("cuda")
    started = time.perf_counter()
    project_many(profile, rungs, sequence_length=1024, card=card)
    return (time.perf_counter() - started) / PROJECTIONS * 1e6


@dataclass
class _Until:
    """compare(), or None once the time is over. A class, for it must travel to another process."""

    deadline: float = field(default=0.0)  # time.monotonic(), which processes of one machine share

    def __call__(self, draw: Draw) -> Done | None:
        torch.set_num_threads(1)
        return compare(draw) if time.monotonic() < self.deadline else None


def run(
    known: dict[str, dict[str, Any]], *, count: int, seed: int, seconds: float, processes: int
) -> dict[str, Any]:
    """Compare as many of `count` as the seconds allow, print each, and sum up."""
    todo = draws(known, count, seed)
    gc.collect()
    gc.freeze()  # children share what was imported and need not look through it
    rows: list[Row] = []
    finished: list[Done] = []
    print(
        f"{'model':24} {'method':24} {'card':4} {'rung':20} {'length':>6} {'phase':12} {'traced GiB':>10} error"
    )
    started = time.monotonic()
    for done in _answers(todo, started + seconds, processes):
        finished.append(done)
        if done.refused:
            print(f"{done.draw.model:24} {done.draw.method:24} refused: {done.refused}", flush=True)
        for row in done.rows:
            rows.append(row)
            print(
                f"{row.model:24} {row.method:24} {row.step.card:4} {row.step.rung.label:20} {row.step.length:6} "
                f"{row.phase:12} {row.traced_bytes / 2**30:10.2f} {row.error:+7.2%}",
                flush=True,
            )
    groups = results.by_group((row.method.replace(", packed", ""), row.error) for row in rows)
    groups["all"] = results.figures([row.error for row in rows])
    print("\n".join(results.lines(groups)))
    traced = [done for done in finished if not done.refused]
    return {
        "benchmark": "memory",
        "part": "closed form against full depth",
        "seed": seed,
        "asked": count,
        "seconds": round(time.monotonic() - started),
        "models": len({row.model for row in rows}),
        **groups["all"],
        "met": results.within(groups["all"], GOALS),
        "by_method": {name: found for name, found in groups.items() if name != "all"},
        "profile_s_median": round(statistics.median(d.seconds for d in traced), 2) if traced else None,
        "profile_s_worst": round(max(d.seconds for d in traced), 2) if traced else None,
        "projection_us_median": round(statistics.median(d.projection_us for d in traced), 2)
        if traced
        else None,
        "refused": {f"{d.draw.model}, {d.draw.method}": d.refused for d in finished if d.refused},
    }


def _answers(todo: Sequence[Draw], deadline: float, processes: int) -> Iterator[Done]:
    # A child does a few draws only: a trace leaves cycles and caches behind.
    with multiprocessing.get_context("fork").Pool(processes, maxtasksperchild=4) as pool:
        for done in pool.imap(_Until(deadline), todo):
            if done is not None:
                yield done
