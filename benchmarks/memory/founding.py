"""The vendor's founding table: for each row the configurations that give its figures, or that none does.

The rows say neither batch nor length, rank or precision, so all of a grid are tried: the projection without and with
every layer checkpointed must both come within TOLERANCE of the row. A vendor's figure may be any of the three numbers
of a projection, and GB may mean 2**30 or 1e9 bytes: each reading is tried, on the card named below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from benchmarks.memory.shapes import job
from jobs.cards import Card, find_card
from jobs.errors import ProfileError, SpecError
from jobs.memory.profile import MemoryProfile
from jobs.memory.project import Projection, project_many
from jobs.memory.rung import Rung
from jobs.units import GiB
from workers.profiler.trace import trace

TOLERANCE = 0.05
CARD = "a100-80gb"
BATCHES = (1, 2, 3, 4, 6, 8, 16)
LENGTHS = (*range(256, 2048, 256), *range(2048, 8193, 512))
UNITS = {"GiB": GiB, "GB": 10**9}
NUMBERS = ("allocated", "reserved", "device")


@dataclass(frozen=True)
class Claim:
    """A row of the vendor's table: GB without and with checkpointing, and the slowdown.

    methods: what its words allow; others: what is tried where none of those gives the figures.
    """

    words: str
    model: str
    methods: tuple[str, ...]
    others: tuple[str, ...]
    without: float
    with_: float
    cost: float


CLAIMS = (
    Claim("Mistral 7B SFT", "Mistral-7B-v0.1", ("full", "lora", "qlora"), (), 26, 12, 0.25),
    Claim("Llama 3 8B QLoRA", "Llama-3-8B", ("qlora",), (), 17, 11, 0.20),
    Claim("Qwen 14B LoRA", "Qwen2.5-14B", ("lora",), ("qlora",), 38, 18, 0.25),
)


@dataclass(frozen=True)
class Match:
    """A configuration and how far its two figures are from the row's, as shares of those."""

    method: str
    words: str
    batch: int
    length: int
    number: str
    unit: str
    without: float
    with_: float
    off_without: float
    off_with: float
    slowdown: float

    @property
    def off(self) -> float:
        return max(abs(self.off_without), abs(self.off_with))

    def __str__(self) -> str:
        return (
            f"{self.words}, {self.batch} x {self.length}: {self.without:.1f} and {self.with_:.1f} {self.unit} "
            f"{self.number} ({self.off_without:+.1%}, {self.off_with:+.1%}), {self.slowdown:.0%} slower"
        )


def ways(method: str) -> list[tuple[str, Any, dict[str, Any]]]:
    """What a row leaves open of a method: its words, method section, additions to the model section."""
    half, masters = {"dtype": "bfloat16"}, {"dtype": "float32"}
    if method == "full":
        return [("full, bfloat16", "full", half), ("full, float32 with autocast", "full", masters)]
    made: list[tuple[str, Any, dict[str, Any]]] = []
    for rank, dropout in ((8, 0.0), (8, 0.05), (64, 0.05)):
        values = {"kind": method, "rank": rank, "dropout": dropout}
        base = "4-bit base" if method == "qlora" else "bfloat16 base"
        made.append((f"{method} r={rank} dropout {dropout:g}, {base}", values, half))
    if method == "lora":
        values = {"kind": method, "rank": 8, "dropout": 0.05}
        made.append(("lora r=8 dropout 0.05, float32 base with autocast", values, masters))
    return made


def matches(claim: Claim, method: str, words: str, profile: MemoryProfile, card: Card) -> Iterator[Match]:
    """Every configuration of one profile, however far off."""
    longest = profile.max_length or max(LENGTHS)
    shapes = [(batch, length) for batch in BATCHES for length in LENGTHS if length <= longest]
    of_step = replace(profile, load_bytes=0)
    lengths = [length for _, length in shapes]
    off, on = (
        project_many(of_step, [Rung(n, batch) for batch, _ in shapes], sequence_length=lengths, card=card)
        for n in (0, 1)
    )
    for (batch, length), plain, saved in zip(shapes, off, on, strict=True):
        for number, (unit, size) in product(NUMBERS, UNITS.items()):
            without, with_ = _number(plain, number) / size, _number(saved, number) / size
            yield Match(
                method,
                words,
                batch,
                length,
                number,
                unit,
                without,
                with_,
                without / claim.without - 1,
                with_ / claim.with_ - 1,
                saved.step_s / plain.step_s - 1,
            )


def _number(found: Projection, number: str) -> int:
    return int(getattr(found, f"{number}_bytes"))


def verdict(claim: Claim, known: dict[str, dict[str, Any]], card: Card) -> dict[str, Any]:
    """What gives the row's figures: printed, and in short."""
    print(f"\n{claim.words}: ~{claim.without:g} without, ~{claim.with_:g} with, ~{claim.cost:.0%} slower")
    if claim.model not in known:
        print(f"  {claim.model} is not in the models file")
        return {"row": claim.words, "verdict": "its model is not in the models file"}
    found: list[Match] = []
    for method in (*claim.methods, *claim.others):
        for words, values, model in ways(method):
            try:
                profile = trace(job(known[claim.model], values, model=model), [])
            except (ProfileError, SpecError) as error:
                print(f"  {words} can't be traced: {error}")
                continue
            found += matches(claim, method, words, profile, card)
    good = sorted((one for one in found if one.off <= TOLERANCE), key=lambda one: one.off)
    as_said = [one for one in good if one.method in claim.methods]
    closest = min((one for one in found if one.method in claim.methods), key=lambda one: one.off)
    told = _words(as_said, good, closest)
    print(f"  {told}")
    for one in _distinct(good)[:6]:
        print(f"    {one}")
    return {
        "row": claim.words,
        "tried": len(found),
        "give_it_as_said": len(as_said),
        "give_it_otherwise": len(good) - len(as_said),
        "best": str(good[0]) if good else None,
        "closest_as_said": str(closest),
        "verdict": told,
    }


def _words(as_said: list[Match], good: list[Match], closest: Match) -> str:
    if as_said:
        return f"given by {len(_distinct(as_said))} configurations as the row describes them"
    if good:
        methods = " or ".join(sorted({one.method for one in good}))
        return f"none as the row describes it; {methods} gives it. Closest as described: {closest}"
    return f"no configuration gives both figures. Closest: {closest}"


def _distinct(found: list[Match]) -> list[Match]:
    """One for each configuration, the closest of its readings first."""
    made: dict[tuple[str, int, int], Match] = {}
    for one in found:
        made.setdefault((one.words, one.batch, one.length), one)
    return list(made.values())


def run(known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A verdict for each row."""
    card = find_card(CARD)
    rows = [verdict(claim, known, card) for claim in CLAIMS]
    return {
        "benchmark": "memory",
        "part": "the founding table",
        "card": card.name,
        "tolerance": TOLERANCE,
        "rows": rows,
        "met": all("tried" in row for row in rows),
    }
