"""What the sweep on the double trains: one case a run, drawn by a seed. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.memory.double.shapes import SHAPES, longest, with_depth
from jobs.jobfile.spec import JobSpec
from jobs.memory.project import Rung

CARDS = ("rtx3090", "rtx4090", "a100-80gb", "h100")
METHODS = ("full", "lora", "qlora")
EVERY = {"off": 0, "every_2": 2, "every_4": 4, "every": 1, "offload": 1}
ALLOCATORS = ("expandable", "default")
LENGTHS = (256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
SHORTEST_SHARE = 1 / 16  # of the longest row, where lengths vary
SHALLOW = 6  # layers: a run of them takes a fifth of the time, and its allocator does the same things
BLOCK = 36  # runs on one card, which share a process that has imported the libraries


@dataclass(frozen=True)
class Case:
    """One run.

    layers: 0 for the shape's own; varied: rows of all lengths up to `length`, else all as long; limit_gib: memory of
    the card that it may have, 0 for all of it.
    """

    shape: str
    layers: int
    method: str
    dtype: str
    optimizer: str
    rung: str
    micro_batch: int
    accumulation: int
    length: int
    varied: bool
    card: str
    allocator: str
    steps: int
    seed: int
    limit_gib: int = 0

    @property
    def config(self) -> dict[str, Any]:
        return with_depth(SHAPES[self.shape], self.layers)

    @property
    def place(self) -> Rung:
        return Rung(EVERY[self.rung], self.micro_batch, self.accumulation, self.rung == "offload")

    @property
    def spec(self) -> JobSpec:
        lora = {"rank": 16, "dropout": 0.05}
        return JobSpec.model_validate(
            {
                "model": {"config": self.config, "tokenizer": "none", "dtype": self.dtype},
                "data": "none",
                "method": {"kind": self.method, **({} if self.method == "full" else lora)},
                "training": {
                    "sequence_length": self.length,
                    "global_batch": self.micro_batch * self.accumulation,
                    "steps": self.steps,
                    "optimizer": self.optimizer,
                },
            }
        )

    @property
    def rows(self) -> list[int]:
        """Tokens of each row in the order of the data: where they vary, the longest is anywhere but in the first step.

        The first step has no optimizer state yet: it alone would not show what a longer job comes to. With segments
        that don't expand the trainer takes a longest row there, so that there are two of them.
        """
        count = self.steps * self.accumulation * self.micro_batch
        if not self.varied:
            return [self.length] * count
        chance = random.Random(self.seed)
        shortest = max(8, int(self.length * SHORTEST_SHARE))
        made = [chance.randint(shortest, self.length) for _ in range(count)]
        for place in chance.sample(
            range(count // self.steps, count), 2 if self.allocator == "default" else 1
        ):
            made[place] = self.length
        return made


def drawn(seed: int, share_of_card: Callable[[Case], float]) -> Iterator[Case]:
    """Cases without end: methods, allocators and ways of length in turn, a card a BLOCK, the rest at random.

    share_of_card: what a case is projected to take of its card's memory; only cases that may fit are run.
    """
    chance = random.Random(seed)
    names = list(SHAPES)
    index = 0
    while True:
        place, index = index, index + 1
        base = Case(
            shape=names[chance.randrange(len(names))],
            layers=0,
            method=METHODS[place % 3],
            dtype="bfloat16",
            optimizer="adamw",
            rung="off",
            micro_batch=1,
            accumulation=chance.choice([1, 1, 1, 2]),
            length=512,
            varied=bool(place // 6 % 2),
            card=CARDS[place // BLOCK % len(CARDS)],
            allocator=ALLOCATORS[place // 3 % 2],
            steps=chance.choice([4, 5, 8]) if place // 6 % 2 else 3,
            seed=chance.randrange(10**6),
        )
        # One depth, type and optimizer for each shape and method, so that few profiles have to be traced.
        of_shape = names.index(base.shape)
        if (of_shape + place) % 3 and of_shape > 4:
            base = replace(base, layers=SHALLOW)
        if base.method == "full":
            base = replace(
                base,
                dtype="float32" if of_shape % 3 == 0 and of_shape < 12 else "bfloat16",
                optimizer="adamw_8bit" if of_shape % 3 == 1 else "adamw",
            )
        wanted = chance.uniform(0.1, 0.95)
        tries: list[tuple[float, int, Case]] = []
        for _ in range(12):
            case = replace(
                base,
                rung=chance.choice(list(EVERY)),
                micro_batch=chance.choice([1, 1, 2, 4, 8]),
                length=min(chance.choice(LENGTHS), longest(base.shape)),
            )
            if (share := share_of_card(case)) <= 0.97:
                tries.append((abs(share - wanted), len(tries), case))
        if tries:
            yield min(tries)[2]
