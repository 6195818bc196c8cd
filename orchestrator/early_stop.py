"""Sweeps: ends the worst jobs of a group once all of it that runs has come so far."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from jobs.spec import JobSpec
from jobs.state import TERMINAL, Code, Reason
from jobs.sweep import worst
from orchestrator.store import Store
from orchestrator.store.rows import FleetRows

log = logging.getLogger(__name__)


def stop_the_worst(store: Store, rows: FleetRows, specs: Mapping[int, JobSpec], now: float) -> None:
    """Ask the jobs to end that are among the worst of their sweep. specs: of running jobs, by id."""
    attempts = {attempt.job_id: attempt for attempt in rows.attempts}
    groups: dict[int, list[int]] = {}
    for job in rows.running:
        spec = specs.get(job.id)
        if job.group_id is not None and spec is not None and spec.sweep.early_stop is not None:
            groups.setdefault(job.group_id, []).append(job.id)
    for group_id, members in groups.items():
        rule = specs[members[0]].sweep.early_stop
        assert rule is not None
        lines = [rows.progress.get(attempts[job_id].id) for job_id in members if job_id in attempts]
        if any(line is None or line.step < rule.after_steps for line in lines):
            continue
        found = [one for one in store.group_losses(group_id, rule.after_steps) if one.reached]
        losses = {one.job_id: math.nan if one.loss is None else one.loss for one in found}
        alive = {one.job_id for one in found if one.state not in TERMINAL}
        for job_id in worst(losses, rule.keep):
            attempt = attempts.get(job_id)
            if job_id not in alive or (attempt is not None and attempt.stop_requested_at is not None):
                continue
            text = (
                f"stopped early: its loss at step {rule.after_steps}, {losses[job_id]:.4g}, is among the worst of "
                f"the {len(losses)} jobs of group {group_id} that came so far"
            )
            figures = {"loss": losses[job_id], "after_steps": rule.after_steps, "group": group_id}
            reason = Reason(Code.EARLY_STOP, text, figures)
            store.request_cancel(job_id, now, reason)
            if attempt is not None:
                store.request_stop(attempt.id, "cancelled", now, reason)
            log.info("job %s %s", job_id, text)
