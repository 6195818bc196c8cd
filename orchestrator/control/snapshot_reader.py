"""Everything of one instant, read: the fleet that a plan is made from, and the jobs that can't train as they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.config import Settings
from orchestrator.control.quarantine import Quarantine
from orchestrator.control.sharing.colocation import Neighbours
from orchestrator.control.snapshot.build import (
    family_told,
    fault_of,
    fleet_of,
    hosts_of,
    pending_job_of,
    stacks_of,
)
from orchestrator.control.snapshot.cache import SnapshotCache
from orchestrator.control.snapshot.sequence_lengths import DataLengths
from orchestrator.scheduler.fleet import Fleet, Host, PendingJob
from orchestrator.store import Store
from orchestrator.store.rows import AttemptRow, FleetRows, HostRow, JobRow
from orchestrator.store.unreadable import leaving_out

_PLANNING = "planning it"


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """faults: by queued job, what is wrong with its job file, its data or its model, so that it can't train."""

    fleet: Fleet
    faults: Mapping[int, str]


class Snapshots:
    """Takes snapshots. Changes nothing in the store except for the note that a record was set aside."""

    def __init__(
        self,
        store: Store,
        snapshot_cache: SnapshotCache,
        quarantine: Quarantine,
        online: Callable[[HostRow], bool],
    ) -> None:
        """online: whether a host's agent is there."""
        self._store, self._memo, self._quarantine = store, snapshot_cache, quarantine
        self._online = online
        self.data = DataLengths(store)
        self.neighbours = Neighbours(store)

    def take(self, rows: FleetRows, settings: Settings, now: float) -> Snapshot:
        """The snapshot of these rows."""
        open_jobs = {attempt.job_id for attempt in rows.attempts}
        queued = [job for job in rows.queued if job.id not in open_jobs]
        hosts = hosts_of(rows, now, settings, self._online)
        stacks = stacks_of(hosts)
        self._memo.forget_all_but({job.id: job.revision for job in (*queued, *rows.running)})
        queue = self._queue(queued, rows, stacks, now)
        movable: list[PendingJob] = []
        with self._quarantine.part("step", "moves", "the tick goes on", now):
            movable = self._movable(rows, stacks) if settings.rules.move else []
        profiles = self._store.profiles({key for job in (*queue, *movable) for key in job.keys.values()})
        reachable = stacks_of(host for host in hosts if host.open)
        faults: dict[int, str] = {}
        for job in queue:
            if (fault := fault_of(job, reachable, profiles, self._memo, now)) is not None:
                faults[job.job_id] = fault
        both = [*queue, *movable]
        figures, apart = self.data.figures(both, now), self.neighbours.apart(both, rows)
        for job, found in zip(both, figures, strict=True):
            if job.job_id in apart:
                found["apart"] = apart[job.job_id]
        told = figures[: len(queue)]
        fleet = fleet_of(hosts, queue, profiles, self._memo, now, rows, settings, told)
        open_hosts = sum(host.open for host in hosts)
        for job in fleet.queue:
            if (fault := self.data.fault(job, open_hosts)) is not None:
                faults.setdefault(job.job_id, fault)
        moved = [_with(job, found, fleet) for job, found in zip(movable, figures[len(queue) :], strict=True)]
        return Snapshot(dataclasses.replace(fleet, movable={job.job_id: job for job in moved}), faults)

    def _queue(
        self, queued: Sequence[JobRow], rows: FleetRows, stacks: Sequence[Host], now: float
    ) -> list[PendingJob]:
        """The queued jobs that can be read."""
        queue = []
        jobs = self._quarantine.each("job", queued, lambda one: one.id, _PLANNING, now)
        attempts = self._attempts(jobs)
        for job in jobs:
            with self._quarantine.part("job", job.id, _PLANNING, now, job.id):
                links, held = rows.links.get(job.id, ()), rows.attained.get(job.id, 0.0)
                history = () if job.started_at is None else attempts(job.id)
                before = () if job.continues is None else attempts(job.continues)
                queue.append(pending_job_of(job, stacks, self._memo, history, links, held, before))
        return queue

    def _attempts(self, jobs: Sequence[JobRow]) -> Callable[[int], Sequence[AttemptRow]]:
        """The attempts of these jobs, and of those that they go on from, in one query.

        Where one of them can't be read, each is asked for by itself, so that only the job that needs it is set aside.
        """
        wanted = {job.id for job in jobs if job.started_at is not None}
        wanted |= {job.continues for job in jobs if job.continues is not None}
        if not wanted:
            return self._store.attempts
        with leaving_out() as unreadable:
            found = self._store.histories(wanted)
        return self._store.attempts if unreadable else found.__getitem__

    def _movable(self, rows: FleetRows, stacks: Sequence[Host]) -> list[PendingJob]:
        """Running jobs as they would wait if they were stopped now."""
        lines = {attempt.job_id: rows.progress.get(attempt.id) for attempt in rows.attempts}
        specs = self._memo.readable_specs(rows.running)
        tries = {attempt.job_id: [attempt] for attempt in rows.attempts}
        tries |= self._store.histories({attempt.job_id for attempt in rows.attempts if attempt.number > 1})
        return [
            dataclasses.replace(
                pending_job_of(job, stacks, self._memo, tries[job.id]),
                steps_done=float(line.step),
                steps_left=float(line.total_steps - line.step),
            )
            for job in rows.running
            if job.id in specs and (line := lines.get(job.id)) is not None
        ]


def _with(job: PendingJob, figures: Mapping[str, Any], fleet: Fleet) -> PendingJob:
    """A running job as it would wait, with what is known of it."""
    return dataclasses.replace(job, **figures, **family_told(job, fleet.profiles))
