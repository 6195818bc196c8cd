"""Sweeps: ends the worst jobs of a group once all of it that runs has come so far."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence

from jobs.jobfile.sections.sweep import EarlyStop
from jobs.jobfile.spec import JobSpec
from jobs.jobfile.sweep import kept, worst
from jobs.state import TERMINAL, Code, JobState, Reason
from orchestrator.store import Store
from orchestrator.store.rows import FleetRows, JobRow, MemberLoss

log = logging.getLogger(__name__)


def stop_the_worst(store: Store, rows: FleetRows, specs: Mapping[int, JobSpec], now: float) -> None:
    """Ask the jobs to end that are among the worst of their sweep. specs: of running jobs, by id."""
    attempts = {attempt.job_id: attempt for attempt in rows.attempts}
    groups: dict[int, list[JobRow]] = {}
    for job in rows.running:
        spec = specs.get(job.id)
        if job.group_id is not None and spec is not None and spec.sweep.early_stop is not None:
            groups.setdefault(job.group_id, []).append(job)
    for group_id, members in groups.items():
        rule = specs[members[0].id].sweep.early_stop
        assert rule is not None
        lines = [rows.progress.get(attempts[job.id].id) for job in members if job.id in attempts]
        if any(line is None or line.step < rule.after_steps for line in lines):
            continue
        leaving = {job.id for job in members if job.cancel_requested_at is not None}
        for job_id, reason in _outdone(
            store.group_losses(group_id, rule.after_steps), leaving, group_id, rule
        ):
            attempt = attempts.get(job_id)
            if attempt is not None and attempt.stop_requested_at is not None:
                continue
            store.request_cancel(job_id, now, reason)
            if attempt is not None:
                store.request_stop(attempt.id, "cancelled", now, reason)
            log.info("job %s %s", job_id, reason.text)


def _outdone(
    members: Sequence[MemberLoss], leaving: Collection[int], group_id: int, rule: EarlyStop
) -> list[tuple[int, Reason]]:
    """The jobs to end, with why. leaving: those that were asked to."""
    losses = {one.job_id: math.nan if one.loss is None else one.loss for one in members if one.reached}
    over = {one.job_id for one in members if one.state in TERMINAL} | {*leaving}
    cancelled = {one.job_id for one in members if one.state is JobState.CANCELLED} | {*leaving}
    # Where they run one after the other each is among the worst of the first few: of all, the share is kept.
    most = len(members) - kept(len(members), rule.keep) - len(cancelled)
    found = []
    for job_id in [one for one in worst(losses, rule.keep) if one not in over][: max(0, most)]:
        text = (
            f"stopped early: its loss at step {rule.after_steps}, {losses[job_id]:.4g}, is among the worst of "
            f"the {len(losses)} jobs of group {group_id} that came so far"
        )
        figures = {"loss": losses[job_id], "after_steps": rule.after_steps, "group": group_id}
        found.append((job_id, Reason(Code.EARLY_STOP, text, figures)))
    return found
