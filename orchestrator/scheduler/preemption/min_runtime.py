"""When a job that waits may stop others that have yet to run their minimum. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from jobs.state import Reason
from jobs.units import span
from orchestrator.scheduler.fleet import Running
from orchestrator.scheduler.job_class import Kind
from orchestrator.scheduler.policy import Ranked
from orchestrator.scheduler.preemption.victims import Bench

MOST = 50  # jobs of one plan that are looked at: those behind them wait for longer


@dataclass
class Dues:
    """Of one plan. A running job is named for one that waits, and for no other."""

    bench: Bench
    _named: set[int] = field(default_factory=set)
    _asked: int = 0

    def told(self, found: Reason, entry: Ranked, kind: Kind) -> Reason:
        """Why a job waits, with whom it is going to stop, and in the figures from when on; else as it was found.

        No clock in the text: it is stored whenever it changes.
        """
        if kind.gang or self._asked >= MOST:
            return found
        self._asked += 1
        at, stops = min(
            (self._on(place, entry, kind.gpus) for place in kind.shelves),
            key=lambda one: (one[0], sorted(job.job_id for job in one[1])),  # not by the hosts' order
            default=(math.inf, []),
        )
        if not stops or at <= self.bench.now or at == math.inf:
            return found
        self._named |= {job.job_id for job in stops}
        ids = sorted(job.job_id for job in stops)
        who = f"job{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids[:5]))}{' …' if len(ids) > 5 else ''}"
        has = "they have" if len(ids) > 1 else "it has"
        text = f"{found.text}; preempts {who} once {has} run {span(self.bench.rules.min_run_s)}, the minimum"
        return Reason(found.code, text, {**found.figures, "preempts": ids, "preempts_at": at})

    def _on(self, place: int, entry: Ranked, need: int) -> tuple[float, list[Running]]:
        """When enough cards of a shelf can be cleared, and of whom; infinity where they can't."""
        bench, rights = self.bench, self.bench.rights(entry)
        lacking = bench.lacking(place, need)
        could = [
            (max(bench.now, job.started_at + bench.rules.min_run_s), job.job_id, count, job)
            for job, count in bench.roll.on[place].values()
            if job.stopping_until is None
            and job.job_id not in self._named
            and entry.score < bench.limit(job, rights, in_time=True)
        ]
        at, stops = bench.now, []
        for ready, _, count, job in sorted(could, key=lambda one: one[:2]):
            if lacking <= 0:
                break
            at, lacking = ready, lacking - count
            stops.append(job)
        return (at, stops) if lacking <= 0 else (math.inf, [])
