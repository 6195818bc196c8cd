"""Starts steps where they can, and says why the others wait."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence

from jobs.memory.rung import Rung
from orchestrator.config import Settings
from orchestrator.control.quarantine import Quarantine
from orchestrator.control.snapshot.build import hosts_of
from orchestrator.control.steps.pending import StepRows, pending_step
from orchestrator.control.steps.work import Sources
from orchestrator.scheduler.steps import PendingStep, plan_steps
from orchestrator.store import Store
from orchestrator.store.requests import Start
from orchestrator.store.rows import FleetRows, HostRow, JobRow

log = logging.getLogger(__name__)

_PLANNING = "planning it"
# What every attempt has, and a step has no use for.
_NO_RUNG = dataclasses.asdict(Rung(0, 1))


class Steps:
    """Plans and commits the starts of steps."""

    def __init__(
        self, store: Store, settings: Settings, quarantine: Quarantine, online: Callable[[HostRow], bool]
    ) -> None:
        """online: whether a host's agent is there."""
        self._store, self._settings = store, settings
        self._quarantine, self._online = quarantine, online

    def start(self, steps: StepRows, rows: FleetRows, now: float) -> None:
        """Start what can, and note why the rest waits. rows: of the same instant."""
        if not steps.queued:
            return
        pending = self._pending(steps, now)
        hosts = hosts_of(rows, now, self._settings, self._online)
        able = frozenset(host.id for host in rows.hosts if host.info.get("steps", False))
        decided = plan_steps(pending, hosts, steps.running, able, now)
        revisions = {step.job_id: step.revision for step in pending}
        starts = [
            Start(job_id, host_id, (), _NO_RUNG, {}, revision=revisions[job_id])
            for job_id, host_id in decided.starts.items()
        ]
        names = {host.id: host.name for host in hosts}
        for job_id in self._store.start_steps(starts, now):
            log.info("job %s starts on %s: a step", job_id, names[decided.starts[job_id]])
        self._store.set_reasons(decided.waits)

    def _pending(self, steps: StepRows, now: float) -> list[PendingStep]:
        jobs: Sequence[JobRow] = self._quarantine.each(
            "job", steps.queued, lambda one: one.id, _PLANNING, now
        )
        unblocked = [job for job in jobs if not steps.links.get(job.id)]
        sources = Sources(self._store, unblocked)
        found = []
        for job in jobs:
            with self._quarantine.part("job", job.id, _PLANNING, now, job.id):
                made = sources.of(job) if job in unblocked else None
                found.append(pending_step(job, steps.links.get(job.id, ()), made))
        return found
