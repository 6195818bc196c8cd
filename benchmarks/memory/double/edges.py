"""The longest sequences that are said to fit, run: every one of them has to train.

A card of a size, a method, a shape and a rung are drawn; the length is the longest whose upper bound the card has.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.memory.double.cases import BLOCK, CARDS, EVERY, METHODS, Case
from benchmarks.memory.double.rows import append, card_of, cases_of, projection_of
from benchmarks.memory.double.shapes import SHAPES, longest
from benchmarks.memory.double.sweep import line, row_of, running

CSV = Path(__file__).with_name("edges.csv")
MULTIPLE = 64  # tokens: how finely the edge is looked for
SIZES = {"rtx3090": (8, 16, 0), "rtx4090": (8, 16, 0), "a100-80gb": (12, 40, 0), "h100": (12, 40, 0)}  # GiB


def fits(case: Case) -> bool:
    return projection_of(case).upper_bytes <= card_of(case).memory_bytes


def at_the_edge(case: Case) -> Case | None:
    """The same with the longest sequence that is said to fit; None where none does, or all that the shape takes do."""
    most = longest(case.shape) // MULTIPLE
    low, high = 0, most + 1  # in MULTIPLEs: fits, does not
    while high - low > 1:
        middle = (low + high) // 2
        if fits(replace(case, length=middle * MULTIPLE)):
            low = middle
        else:
            high = middle
    return replace(case, length=low * MULTIPLE) if 0 < low < most else None


def drawn(seed: int) -> Iterator[Case]:
    """Cases at an edge without end. Three of four have segments that expand, as trainers have them."""
    chance = random.Random(seed)
    names = list(SHAPES)
    place = 0
    while True:
        place += 1
        card = CARDS[place // BLOCK % len(CARDS)]
        of_shape = chance.randrange(len(names))
        method = METHODS[place % 3]
        full = method == "full"
        case = Case(
            shape=names[of_shape],
            layers=6 if (of_shape + place) % 3 and of_shape > 4 else 0,
            method=method,
            dtype="float32" if full and of_shape % 3 == 0 and of_shape < 12 else "bfloat16",
            optimizer="adamw_8bit" if full and of_shape % 3 == 1 else "adamw",
            rung=chance.choice(list(EVERY)),
            micro_batch=chance.choice([1, 2, 4]),
            accumulation=chance.choice([1, 2]),
            length=MULTIPLE,
            varied=chance.random() < 0.7,
            card=card,
            allocator="default" if chance.random() < 0.25 else "expandable",
            steps=4,
            seed=chance.randrange(10**6),
            limit_gib=chance.choice(SIZES[card]),
        )
        if (edge := at_the_edge(case)) is not None:
            yield edge


def run(seed: int, path: Path, count: int, seconds: float) -> dict[str, Any]:
    """Run `count` edges; a false fit is one that runs out."""

    ends = time.monotonic() + seconds
    before = {case for case, _ in cases_of(path)}
    with running() as runner:
        for index, case in enumerate(drawn(seed)):
            if index >= count or time.monotonic() > ends:
                break
            if case in before:
                continue
            row = row_of(case, runner.ask(case))
            append(path, [row])
            print(line(case, row), flush=True)
    return sums(path)


def sums(path: Path) -> dict[str, Any]:
    """How many edges a file has, and which of them ran out."""
    outcomes = [(case, row["outcome"]) for case, row in cases_of(path)]
    return {
        "edges": sum(outcome in ("ran", "oom") for _, outcome in outcomes),
        "false_fits": sum(outcome == "oom" for _, outcome in outcomes),
        "failed": sum(outcome == "failed" for _, outcome in outcomes),
    }
