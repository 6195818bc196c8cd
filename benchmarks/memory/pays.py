"""What the ladder pays: projected tokens a second of its choice against checkpointing always, and never.

Always: every layer, as TRL does unless told otherwise; never: off where that fits, else the job does not run. Both get
the quickest micro-batch that fits, and the same upper bounds, so that what is compared is checkpointing alone.
"""

from __future__ import annotations

import multiprocessing
import random
import statistics
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.memory.shapes import WAYS, job
from jobs.cards import COMMON, Card, find_card
from jobs.errors import ProfileError, SpecError
from jobs.jobfile.spec import JobSpec
from jobs.memory.ladder import Choice, choose
from jobs.memory.profile import MemoryProfile
from workers.profiler.trace import trace

JOBS = 30


@dataclass(frozen=True)
class Pair:
    """A job on a card: tokens a second each way, None where it does not run, and the rung that was chosen."""

    job: str
    card: str
    speeds: dict[str, float | None]
    rung: str

    def ratio(self, other: str) -> float | None:
        """The choice over another way, None unless both run."""
        chosen, theirs = self.speeds["choice"], self.speeds[other]
        return chosen / theirs if chosen and theirs else None


def jobs(known: dict[str, dict[str, Any]], seed: int) -> list[tuple[str, JobSpec]]:
    """JOBS jobs: methods in turn, models, lengths and batches at random."""
    chance = random.Random(seed)
    made = []
    for index in range(JOBS):
        name = chance.choice(sorted(known))
        config = known[name]
        method: Any = [
            "full",
            {"kind": "lora", "rank": 16, "dropout": 0.05},
            {"kind": "qlora", "rank": 16, "dropout": 0.05},
        ][index % 3]
        longest = config.get("max_position_embeddings", 8192)
        length = chance.choice([n for n in (512, 1024, 2048, 4096, 8192) if n <= longest])
        batch = chance.choice([8, 16, 32, 64])
        words = f"{name}, {method if isinstance(method, str) else method['kind']}, {batch} x {length}"
        made.append((words, job(config, method, training={"sequence_length": length, "global_batch": batch})))
    return made


def pair(words: str, profile: MemoryProfile, spec: JobSpec, card: Card) -> Pair:
    """The job on the card, each way."""
    tokens = spec.training.global_batch * spec.training.sequence_length
    speeds: dict[str, float | None] = {}
    rung = ""
    for way, memory in WAYS.items():
        asked = JobSpec.model_validate({**spec.model_dump(), "memory": memory})
        found = choose(profile, asked, card)
        speeds[way] = tokens / found.step_s if isinstance(found, Choice) else None
        if way == "choice":
            rung = found.rung.label if isinstance(found, Choice) else "does not run"
    return Pair(words, card.short, speeds, rung)


def on_every_card(job: tuple[str, JobSpec]) -> list[Pair] | str:
    """The job on every card of the catalogue that people ask for, or why it can't be traced."""
    words, spec = job
    torch.set_num_threads(1)
    try:
        profile = trace(spec, [])
    except (ProfileError, SpecError) as error:
        return str(error)
    return [pair(words, profile, spec, find_card(name)) for name in COMMON]


def run(known: dict[str, dict[str, Any]], *, seed: int, processes: int) -> dict[str, Any]:
    """Every job on every card: a table, and medians."""
    pairs: list[Pair] = []
    refused: dict[str, str] = {}
    print(f"{'job':38} {'cards':>5} {'always':>6} {'never':>6} {'vs always':>9} {'best':>6}  rungs chosen")
    todo = jobs(known, seed)
    with multiprocessing.get_context("fork").Pool(processes, maxtasksperchild=4) as pool:
        for (words, _), here in zip(todo, pool.imap(on_every_card, todo), strict=True):
            if isinstance(here, str):
                refused[words] = here
                print(f"{words:38} refused: {here}", flush=True)
            else:
                pairs += here
                print(_line(words, here), flush=True)
    summary = sums(pairs)
    print(f"\n{len(pairs)} pairs of a job and a card: {summary}")
    return {
        "benchmark": "memory",
        "part": "the ladder pays",
        "seed": seed,
        "jobs": JOBS - len(refused),
        "cards": len(COMMON),
        **summary,
        "met": bool(pairs)
        and summary["runs"]["choice"] >= max(summary["runs"].values())
        and (summary["against_always"]["least"] or 0) >= 0.999,
        "refused": refused,
    }


def sums(pairs: list[Pair]) -> dict[str, Any]:
    """How many run each way; ratios of tokens a second where both run."""
    return {
        "pairs": len(pairs),
        "runs": {way: sum(one.speeds[way] is not None for one in pairs) for way in WAYS},
        **{f"against_{other}": _ratios(pairs, other) for other in ("always", "never")},
    }


def _ratios(pairs: list[Pair], other: str) -> dict[str, Any]:
    found = [ratio for one in pairs if (ratio := one.ratio(other)) is not None]
    return {
        "both_run": len(found),
        "faster": sum(ratio > 1.005 for ratio in found),
        "median": round(statistics.median(found), 3) if found else None,
        "mean": round(statistics.fmean(found), 3) if found else None,
        "least": round(min(found), 3) if found else None,
        "most": round(max(found), 3) if found else None,
    }


def _line(words: str, here: list[Pair]) -> str:
    counts = [sum(one.speeds[way] is not None for one in here) for way in WAYS]
    ratios = [ratio for one in here if (ratio := one.ratio("always")) is not None]
    middle = f"{statistics.median(ratios):8.2f}x" if ratios else f"{'-':>9}"
    best = f"{max(ratios):5.2f}x" if ratios else f"{'-':>6}"
    kinds = sorted({one.rung.split(",")[0] for one in here if one.speeds["choice"]})
    return f"{words:38} {counts[0]:5} {counts[1]:6} {counts[2]:6} {middle} {best}  {', '.join(kinds)}"
