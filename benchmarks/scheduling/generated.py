"""The same settings on traces of another make: 64 to 1,080 GPUs, loads of 0.8 to 5. Nothing here was tuned on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.scheduling.tables import HEADER, Check, Result, run, verdicts
from benchmarks.scheduling.venus import FAIR, PASSING, SOON, UNKNOWN
from orchestrator.simulate.fleet_file import FleetFile, read_fleet
from orchestrator.simulate.generate import Wish, generate


@dataclass(frozen=True)
class Case:
    """A made-up trace. nodes: of 8 GPUs each, in so many pools, 0: none."""

    nodes: int
    pools: int
    wish: Wish

    @property
    def name(self) -> str:
        pools = f" in {self.pools} pools" if self.pools else ""
        return f"{self.nodes * 8:,} GPUs{pools}, load {self.wish.load:g}, {self.wish.jobs:,} jobs"

    def fleet(self) -> FleetFile:
        if not self.pools:
            return read_fleet(f"hosts: [{{count: {self.nodes}, gpus: 8, card: a100}}]", self.name)
        # Unequal, as pools are: the first has the most.
        shares = [1 / (rank + 1) for rank in range(self.pools)]
        counts = [max(1, round(self.nodes * share / sum(shares))) for share in shares]
        lines = [f"  - {{count: {count}, gpus: 8, card: a100, pool: p{i}}}" for i, count in enumerate(counts)]
        return read_fleet("hosts:\n" + "\n".join(lines), self.name)


LONGEST_S = 86_400.0  # well under the time in which jobs arrive, so that the load is felt

CASES = (
    Case(8, 0, Wish(jobs=1500, load=0.8, seed=1, longest_s=LONGEST_S)),
    Case(8, 0, Wish(jobs=1500, load=1.2, seed=2, longest_s=LONGEST_S)),
    Case(8, 0, Wish(jobs=1000, load=5.0, seed=3, longest_s=LONGEST_S)),
    Case(32, 0, Wish(jobs=4000, load=0.95, seed=4, longest_s=LONGEST_S, users=60)),
    Case(32, 4, Wish(jobs=4000, load=0.85, seed=5, longest_s=LONGEST_S, users=60)),
    Case(64, 6, Wish(jobs=5000, load=1.5, seed=6, longest_s=LONGEST_S, users=80)),
    Case(135, 12, Wish(jobs=10000, load=0.9, seed=7, longest_s=LONGEST_S, users=120)),
)


def run_all() -> dict[str, Any]:
    """FIFO with passing beside each policy, on each trace."""
    checks: list[Check] = []
    rows: list[dict[str, Any]] = []
    print(f"\nmade-up traces (benchmarks/scheduling/generated.py)\n\n{HEADER}")
    for case in CASES:
        fleet = case.fleet()
        jobs = generate(case.wish, fleet.gpus, fleet.pools)
        print(case.name)
        passing = run("  FIFO, smaller ones may pass", jobs, fleet.hosts, PASSING, "never")
        others = [
            run("  attained", jobs, fleet.hosts, UNKNOWN, "never"),
            run("  fair", jobs, fleet.hosts, FAIR, "soon"),
            run("  shortest", jobs, fleet.hosts, SOON, "soon"),
        ]
        rows += [{"case": case.name, **one.as_dict()} for one in (passing, *others)]
        checks += _checks(case, passing, (others[0], others[2]))
    verdicts(checks)
    return {"rows": rows, "goals": [check.as_dict() for check in checks]}


def _checks(case: Case, passing: Result, others: tuple[Result, ...]) -> list[Check]:
    """Better than FIFO with passing, and nobody pays for it with more than thrice its worst wait."""
    made = []
    for one in others:
        name = f"{case.name}: {one.name.strip()}"
        shorter = one.figures.jct.mean / passing.figures.jct.mean
        made.append(Check("6", f"{name}, JCT", shorter, 1.0))
        if passing.figures.wait.most:
            worst = one.figures.wait.most / passing.figures.wait.most
            made.append(Check("5", f"{name}, worst wait", worst, 3.0))
    return made
