"""When a job that waits may stop others that have yet to run their minimum. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from jobs.state import Reason
from jobs.units import listed_jobs, span
from orchestrator.scheduler.fleet import RunningJob
from orchestrator.scheduler.job_class import JobClass
from orchestrator.scheduler.policy import Ranked
from orchestrator.scheduler.preemption.victims import VictimSearch

MOST = 50  # jobs of one plan that are looked at: those behind them wait for longer


@dataclass
class MinRuntimeNotices:
    """Of one plan. A running job is named for one that waits, and for no other."""

    victims: VictimSearch
    _named: set[int] = field(default_factory=set)
    _asked: int = 0

    def told(self, found: Reason, entry: Ranked, job_class: JobClass) -> Reason:
        """Why a job waits, with whom it is going to stop, and in the figures from when on; else as it was found.

        No clock in the text: it is stored whenever it changes.
        """
        if job_class.gang or self._asked >= MOST:
            return found
        self._asked += 1
        at, stops = min(
            (self._on(group, entry, job_class.gpus) for group in job_class.groups),
            key=lambda one: (one[0], sorted(job.job_id for job in one[1])),  # not by the hosts' order
            default=(math.inf, []),
        )
        if not stops or at <= self.victims.now or at == math.inf:
            return found
        self._named |= {job.job_id for job in stops}
        ids = sorted(job.job_id for job in stops)
        has = "they have" if len(ids) > 1 else "it has"
        minimum = span(self.victims.rules.min_run_s)
        text = f"{found.text}; preempts {listed_jobs(ids)} once {has} run {minimum}, the minimum"
        return Reason(found.code, text, {**found.figures, "preempts": ids, "preempts_at": at})

    def _on(self, group: int, entry: Ranked, need: int) -> tuple[float, list[RunningJob]]:
        """When enough cards of a card group can be cleared, and of whom; infinity where they can't."""
        victims, rights = self.victims, self.victims.rights(entry)
        lacking = victims.lacking(group, need)
        could = [
            (max(victims.now, job.started_at + victims.rules.min_run_s), job.job_id, count, job)
            for job, count in victims.index.on[group].values()
            if job.stopping_until is None
            and job.job_id not in self._named
            and entry.score < victims.limit(job, rights, in_time=True)
        ]
        at, stops = victims.now, []
        for ready, _, count, job in sorted(could, key=lambda one: one[:2]):
            if lacking <= 0:
                break
            at, lacking = ready, lacking - count
            stops.append(job)
        return (at, stops) if lacking <= 0 else (math.inf, [])
