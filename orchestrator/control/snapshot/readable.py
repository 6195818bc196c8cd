"""The rows of one instant without what this version can't read."""

from __future__ import annotations

import dataclasses

from jobs.memory.rung import Rung
from orchestrator.config import Settings
from orchestrator.control.quarantine import Quarantine
from orchestrator.control.snapshot.build import host_of
from orchestrator.store.rows import FleetRows, GpuRow
from orchestrator.store.schema import tables
from orchestrator.store.unreadable import all_good, check

READING = "reading it"


def readable(rows: FleetRows, quarantine: Quarantine, settings: Settings, now: float) -> FleetRows:
    """Without the hosts, cards and open attempts that this version can't read."""
    hosts, attempts, cards = [], [], list[GpuRow]()
    on: dict[int, list[GpuRow]] = {}
    good = all_good(rows.gpus, tables.gpus)
    for gpu in quarantine.each("card", rows.gpus, lambda one: one.id, READING, now):
        with quarantine.part("card", gpu.id, READING, now):
            if not good:
                check(gpu, tables.gpus)
            gpu.index + 0
            on.setdefault(gpu.host_id, []).append(gpu)
    for host in quarantine.each("host", rows.hosts, lambda one: one.id, READING, now):
        with quarantine.part("host", host.id, READING, now):
            check(host, tables.hosts)
            host.info["home"], host.info["output_root"]
            host_of(host, on.get(host.id, ()), now, settings, online=True)
            hosts.append(host)
            cards += on.get(host.id, ())
    good = all_good(rows.attempts, tables.attempts)
    for attempt in quarantine.each("attempt", rows.attempts, lambda one: one.id, READING, now):
        with quarantine.part("attempt", attempt.id, READING, now, attempt.job_id):
            if not good:
                check(attempt, tables.attempts)
            Rung(**attempt.rung)
            attempt.projection.get("upper_bytes"), (attempt.basis or {}).get("speed")
            attempts.append(attempt)
    running = []
    good = all_good(rows.running, tables.jobs)
    for job in quarantine.each("job", rows.running, lambda one: one.id, READING, now):
        with quarantine.part("job", job.id, READING, now, job.id):
            if not good:
                check(job, tables.jobs)  # what waits is ranked beside it
            running.append(job)
    projects = []
    for project in quarantine.each("project", rows.projects, lambda one: one.name, READING, now):
        with quarantine.part("project", project.name, READING, now):
            check(project, tables.projects)
            projects.append(project)
    lines, good = {}, all_good([*rows.progress.values()], tables.progress)
    for attempt_id, line in rows.progress.items():
        with quarantine.part("attempt", attempt_id, "reading its progress", now):
            if not good:
                check(line, tables.progress)
            lines[attempt_id] = line
    return dataclasses.replace(
        rows,
        hosts=hosts,
        attempts=attempts,
        gpus=cards,
        running=running,
        projects=projects,
        progress=lines,
    )
