"""Lines of the tables: what a simulation came to, and whether a goal was met."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.scheduler.fleet import Host, Project
from orchestrator.scheduler.policy import Rules
from orchestrator.simulate.engine import Known, simulate
from orchestrator.simulate.metrics import Measures, measure
from orchestrator.simulate.trace import Ran, TraceJob

WIDTH = 46
_COLUMNS = (
    f"{'JCT':>8} {'wait':>8} {'p99':>9} {'p99.9':>9} {'worst':>10} {'preempt.':>8} {'fair':>5} {'CPU s':>6} "
    f"{'events/s':>8}"
)
HEADER = f"{'seconds':{WIDTH}} {_COLUMNS}"


@dataclass(frozen=True)
class Result:
    """One simulation. cpu_s: processor time that it took."""

    name: str
    ran: list[Ran]
    figures: Measures
    cpu_s: float = 0.0

    @property
    def events_per_s(self) -> float:
        """Submissions, starts, stops and ends of jobs, by processor time."""
        events = sum(
            1 + (ran.first_start_s is not None) + 2 * ran.preemptions + (ran.end_s is not None)
            for ran in self.ran
        )
        return events / self.cpu_s

    def line(self) -> str:
        wait = self.figures.wait
        cpu = f"{self.cpu_s:6.1f} {self.events_per_s:8,.0f}" if self.cpu_s else ""
        return (
            f"{self.name:{WIDTH}} {self.figures.jct.mean:8,.0f} {wait.mean:8,.0f} {wait.p99:9,.0f} {wait.p999:9,.0f} "
            f"{wait.most:10,.0f} {self.figures.preemptions:8,} {self.figures.fairness:5.2f} {cpu}"
        ).rstrip()

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "jct": round(self.figures.jct.mean, 1),
            "wait": round(self.figures.wait.mean, 1),
            "p99_wait": round(self.figures.wait.p99),
            "p999_wait": round(self.figures.wait.p999),
            "worst_wait": round(self.figures.wait.most),
            "preemptions": self.figures.preemptions,
            "fairness": round(self.figures.fairness, 4),
            "utilisation": round(self.figures.utilisation, 4),
            "unfinished": self.figures.unfinished,
            "cpu_s": round(self.cpu_s, 2),
            "events_per_s": round(self.events_per_s) if self.cpu_s else None,
        }


@dataclass(frozen=True)
class Check:
    """A goal: a figure and its limit. least: it must be at least that, not at most."""

    goal: str
    what: str
    value: float
    limit: float
    least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.least else self.value <= self.limit

    def line(self) -> str:
        sign = ">=" if self.least else "<="
        verdict = "met" if self.met else "NOT MET"
        return f"{self.goal:4} {self.what:58} {self.value:12,.4g} {sign} {self.limit:10,.6g}  {verdict}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "goal": self.goal,
            "what": self.what,
            "value": round(self.value, 4),
            "limit": round(self.limit, 4),
            "met": self.met,
        }


def run(
    name: str,
    jobs: Sequence[TraceJob],
    hosts: Sequence[Host],
    rules: Rules,
    known: Known,
    projects: Mapping[str, Project] | None = None,
) -> Result:
    """One simulation, its line printed."""
    began = time.process_time()
    ran = simulate(jobs, hosts, rules, projects, known=known)
    cpu_s = time.process_time() - began
    made = Result(name, ran, measure(ran, sum(len(host.gpus) for host in hosts)), cpu_s)
    print(made.line(), flush=True)
    return made


def published(name: str, *figures: float | str) -> None:
    """A line of others' results: JCT, wait, p99, p99.9, worst wait, preemptions; "" where nothing was published."""
    widths = (8, 8, 9, 9, 10, 8)
    cells = [
        f"{f:>{w}}" if isinstance(f, str) else f"{f:>{w},.0f}" for f, w in zip(figures, widths, strict=False)
    ]
    print(f"{'  published: ' + name:{WIDTH}} {' '.join(cells)}".rstrip())


def verdicts(checks: Sequence[Check]) -> None:
    """Every goal and whether it is met."""
    print(f"\n{'goal':63} {'ours':>12}    {'limit':>10}")
    for check in checks:
        print(check.line())
