"""Likely starts against real ones: each job that waits is told a range when it comes; how many start within it?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.scheduling.generated import CASES
from benchmarks.scheduling.venus import FAIR
from orchestrator.scheduler.cache.scheduler_cache import PlanInput
from orchestrator.scheduler.plan import Plan
from orchestrator.scheduler.policy import Rules
from orchestrator.simulate.engine import simulate
from orchestrator.simulate.generate import generate
from orchestrator.whatif.start_times import StartInterval, starts

FEW = 800  # jobs of a trace: a range is worked out at each arrival


def run_all() -> dict[str, Any]:
    """Policies that stop nobody, and one that does, on two of the made-up traces."""
    print("\nlikely starts, told when a job begins to wait, durations projected right\n")
    print(f"{'':46} waiting   in range   too early   too late   width of range / wait, median")
    rows = []
    for case in CASES[:2]:
        fleet = case.fleet()
        jobs = generate(replace(case.wish, jobs=FEW), fleet.gpus, fleet.pools)
        for rules in (FAIR, replace(FAIR, policy="fifo"), replace(FAIR, policy="shortest")):
            rows.append(_row(f"{case.name.split(',')[1].strip()}, {rules.policy}", jobs, fleet.hosts, rules))
    return {"rows": rows}


def _row(name: str, jobs: Any, hosts: Any, rules: Rules) -> dict[str, Any]:
    told: dict[int, StartInterval] = {}

    def watch(given: PlanInput, decided: Plan) -> None:
        begun = {*told, *decided.starts}
        # One that was stopped and waits again has its first start behind it.
        new = [job for job in given.fleet.queue if job.job_id not in begun and not job.attained_gpu_s]
        if new:
            found = starts(given, decided)
            told.update({job.job_id: found[job.job_id] for job in new if job.job_id in found})

    ran = simulate(jobs, hosts, rules, known="told", watch=watch)
    early = late = right = 0
    widths = []
    for job_id, start in told.items():
        began = ran[job_id].first_start_s
        if began is None or start.latest is None:
            continue
        early += began < start.earliest
        late += began > start.latest
        right += start.earliest <= began <= start.latest
        waited = began - jobs[job_id].submit_s
        if waited > 0:
            widths.append((start.latest - start.earliest) / waited)
    count = early + late + right
    width = sorted(widths)[len(widths) // 2] if widths else 0.0
    shares = [value / count if count else 0.0 for value in (right, early, late)]
    print(
        f"{name:46} {count:7,}   {shares[0]:8.1%}   {shares[1]:9.1%}   {shares[2]:8.1%}   {width:8.2f}",
        flush=True,
    )
    return {
        "name": name,
        "told": count,
        "in_range": round(shares[0], 4),
        "sooner": round(shares[1], 4),
        "later": round(shares[2], 4),
        "width_of_wait": round(width, 3),
    }
