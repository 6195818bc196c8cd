"""The rows of one instant without what this version can't read."""

from __future__ import annotations

import dataclasses

from jobs.memory.rung import Rung
from orchestrator.config import Settings
from orchestrator.control.quarantine import Quarantine
from orchestrator.control.snapshot.build import host_of
from orchestrator.store.rows import FleetRows, GpuRow

READING = "reading it"


def readable(rows: FleetRows, quarantine: Quarantine, settings: Settings, now: float) -> FleetRows:
    """Without the hosts and open attempts that this version can't read."""
    hosts, attempts, cards = [], [], list[GpuRow]()
    on: dict[int, list[GpuRow]] = {}
    for gpu in rows.gpus:
        on.setdefault(gpu.host_id, []).append(gpu)
    for host in quarantine.each("host", rows.hosts, lambda one: one.id, READING, now):
        with quarantine.part("host", host.id, READING, now):
            host.info["home"], host.info["output_root"], host.last_seen + 0.0
            host_of(host, on.get(host.id, ()), now, settings, online=True)
            hosts.append(host)
            cards += on.get(host.id, ())
    for attempt in quarantine.each("attempt", rows.attempts, lambda one: one.id, READING, now):
        with quarantine.part("attempt", attempt.id, READING, now, attempt.job_id):
            Rung(**attempt.rung)
            attempt.projection.get("upper_bytes"), (attempt.basis or {}).get("speed")
            attempts.append(attempt)
    running = []
    for job in quarantine.each("job", rows.running, lambda one: one.id, READING, now):
        with quarantine.part("job", job.id, READING, now, job.id):
            job.priority + 0, job.submitted_at + 0.0  # what waits is ranked beside it
            running.append(job)
    projects = []
    for project in quarantine.each("project", rows.projects, lambda one: one.name, READING, now):
        with quarantine.part("project", project.name, READING, now):
            (project.guarantee or 0) + 0, project.weight + 0.0
            projects.append(project)
    lines = {}
    for attempt_id, line in rows.progress.items():
        with quarantine.part("attempt", attempt_id, "reading its progress", now):
            line.total_steps - line.step, (line.step_s or 0.0) + 0.0
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
