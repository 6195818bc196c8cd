"""Open attempts that nobody works on yet are handed to the dispatcher: an assignment for each rank, by host."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Any

from jobs.errors import Conflict
from jobs.identity import Owner
from jobs.jobfile.resume_compatibility import weights_digest
from jobs.jobfile.spec import JobSpec
from jobs.messages.reports import Assignment, GpuInfo, Kept
from jobs.state import Outcome
from orchestrator.config import Settings
from orchestrator.control.host_silence import Hearing
from orchestrator.control.quarantine import Quarantine
from orchestrator.control.snapshot.progress import checkpoint_bytes, checkpoint_step, result_bytes
from orchestrator.control.steps.work import Sources
from orchestrator.dispatch.dispatcher import Dispatch, Part
from orchestrator.store import Store
from orchestrator.store.rows import AttemptRow, HostRow, JobRow
from orchestrator.vault import Sealed
from workers.attempt_folder import yard_root
from workers.ports import free_port

_WARMING, _HANDING = "keeping its trainers warm", "handing it over"


class Handover:
    """Remembers what the present dispatcher was handed."""

    def __init__(
        self,
        store: Store,
        dispatch: Dispatch,
        settings: Settings,
        quarantine: Quarantine,
        hearing: Hearing,
    ) -> None:
        self._store, self._dispatch, self._settings = store, dispatch, settings
        self._quarantine, self._hearing = quarantine, hearing
        self._handed: dict[int, float] = {}  # when each was, on the clock of wakefulness
        self._handed_to = 0  # the dispatcher they were handed to: a new one knows nothing of them
        self.handed_from = 0.0  # when that one took over

    def forget(self, attempt_id: int) -> None:
        """It has ended."""
        self._handed.pop(attempt_id, None)

    def waited_s(self, attempt_id: int) -> float:
        """Since when a dispatcher that answers has had it: how long no other than the host can be waited for."""
        mine = self._handed_to == self._dispatch.generation and self._dispatch.state().ready
        now_s = self._hearing.awake_s()
        return now_s - self._handed.get(attempt_id, now_s) if mine else 0.0

    def hand(self, now: float) -> None:
        """Hand over every open attempt that nobody works on yet. Twice does no harm: the folder's claim decides."""
        found = self._quarantine.each("host", self._store.hosts(), lambda one: one.id, _WARMING, now)
        hosts = {host.id: host for host in found}
        if self._handed_to != self._dispatch.generation:
            self._handed.clear()
            self._handed_to, self.handed_from = self._dispatch.generation, now
        if self._dispatch.address is None:
            return
        present: dict[int, HostRow] = {}
        warm: dict[str, int] = {}
        for host in hosts.values():
            with self._quarantine.part("host", host.id, _WARMING, now):
                if not self._hearing.online(host, now, self._settings.away_after_s):
                    continue
                present[host.id] = host
                warm |= {host.name: int(host.info.get("warm", 0))} if host.ray_ready else {}
        self._dispatch.pool(warm)
        waiting = [one for one in self._store.attempts_to_hand() if one.id not in self._handed]
        if not waiting:
            return
        jobs, yard = self._store.jobs_by_id({attempt.job_id for attempt in waiting}), self._store.yard()
        before = {job.continues for job in jobs.values() if job.continues is not None}
        histories = self._store.histories({one.job_id for one in waiting if one.number > 1} | before)
        sources = Sources(self._store, [job for job in jobs.values() if job.step_of is not None])
        owners, epoch = Owners(self._store, {**sources.jobs, **jobs}), self._store.epoch()
        handed = set()
        for attempt in self._quarantine.each("attempt", waiting, lambda one: one.id, _HANDING, now):
            with self._quarantine.part("attempt", attempt.id, _HANDING, now, attempt.job_id):
                kept = kept_elsewhere(
                    histories.get(attempt.job_id, ()), attempt.host_id, hosts, present, yard
                )
                if (other := jobs[attempt.job_id].continues) is not None:
                    theirs = kept_elsewhere(histories.get(other, ()), attempt.host_id, hosts, present, yard)
                    kept += [place.model_copy(update={"job_id": other}) for place in theirs]
                job = jobs[attempt.job_id]
                named = {"uuid": attempt.uuid, "epoch": epoch, **owners.of(job)}
                if job.step_of is not None:
                    named["taken"] = sources.taken(job, lambda made: owners.of(made)["owner"])
                parts = self._parts(attempt, job, kept, hosts, yard, named)
                if env := secrets_of(self._store, self._settings, job):
                    parts = [{**part, "env": env} for part in parts]
                if self._dispatch.start(attempt.id, parts):
                    handed.add(attempt.id)
        self._handed |= dict.fromkeys(handed, self._hearing.awake_s())
        self._store.mark_dispatched(handed, now)

    def _parts(
        self,
        attempt: AttemptRow,
        job: JobRow,
        kept: Sequence[Kept],
        hosts: Mapping[int, HostRow],
        yard: str,
        named: Mapping[str, Any],
    ) -> list[Part]:
        """One a host, that of rank 0 first."""
        ranked = list(enumerate(self._assignments(attempt, job, kept, named)))
        return [
            {
                "host": hosts[host_id].name,
                "home": str(yard_root(hosts[host_id].info["home"], yard)),
                "output_root": hosts[host_id].info["output_root"],
                "assignments": [assignment for _, assignment in of_host],
            }
            for host_id, of_host in groupby(ranked, key=lambda pair: _place(attempt, pair[0]))
        ]

    def _assignments(
        self, attempt: AttemptRow, job: JobRow, kept: Sequence[Kept], named: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """One a rank. Ranks of a gang meet on a port that is free here, and most likely there; of a gang over several
        hosts the dispatcher asks its lead for one.
        """
        port = free_port() if len(attempt.gpus) > 1 else 0
        gpus = [
            GpuInfo(uuid=g.uuid, index=g.index, kind=g.kind, name=g.name, memory_bytes=g.memory_bytes)
            for g in attempt.gpus
        ]
        names = [attempt.hosts[_place(attempt, rank)] for rank in range(len(gpus))] or [attempt.host]
        spec = JobSpec.model_validate(job.spec)
        whole = Assignment(
            attempt_id=attempt.id,
            job_id=attempt.job_id,
            number=attempt.number,
            continues=job.continues,
            spec=spec,
            result_bytes=result_bytes(attempt, spec),
            checkpoint_bytes=checkpoint_bytes([attempt], spec),
            upper_bytes=attempt.projection.get("upper_bytes", 0),
            shared=attempt.shared,
            rung=attempt.rung,
            gpus=gpus,
            host=attempt.host,
            hosts=names if len(set(names)) > 1 else [],
            world_size=len(names),
            master_port=port,
            trusted_models=list(self._settings.trusted_models),
            kept=list(kept),
            **named,
        ).model_dump(mode="json")
        return [{**whole, "rank": rank, "host": name} for rank, name in enumerate(names)]


def secrets_of(store: Store, settings: Settings, job: JobRow) -> dict[str, str]:
    """What a job's trainers get in their environment. Raises Conflict where one is gone, or can't be opened."""
    wanted = job.spec.get("secrets") or []
    if not wanted:
        return {}
    there = {row.name: row for row in store.secrets(job.project)}
    if missing := next((name for name in wanted if name not in there), None):
        text = f"secret {missing} of project {job.project} is gone: set it again with `tuneyard secret set {missing}`"
        raise Conflict(text)
    return {
        name: settings.vault.open(job.project, name, Sealed(there[name].key_id, there[name].box))
        for name in wanted
    }


class Owners:
    """Names jobs as the files of their attempts do. jobs: by id; those that they go on from are read."""

    def __init__(self, store: Store, jobs: Mapping[int, JobRow]) -> None:
        before = {job.continues for job in jobs.values() if job.continues is not None}
        self._jobs = {**store.jobs_by_id(before - jobs.keys()), **jobs}
        self._unnamed = store.unnamed_attempts(list(self._jobs))

    def of(self, job: JobRow) -> dict[str, Any]:
        """`owner` and `before` of the assignments of a job."""
        digest = weights_digest(JobSpec.model_validate(job.spec))
        mine, other = self._unnamed.get(job.id, ()), self._jobs.get(job.continues or 0)
        if other is None:
            return {"owner": Owner(job_id=job.id, job_uuid=job.uuid, digest=digest, unnamed=mine)}
        theirs = self._unnamed.get(other.id, ())
        # What an older version took over from the other job still names that one's attempt.
        owner = Owner(job_id=job.id, job_uuid=job.uuid, digest=digest, unnamed=(*mine, *theirs))
        before = Owner(job_id=other.id, job_uuid=other.uuid, digest=digest, unnamed=theirs)
        return {"owner": owner, "before": before}


def kept_elsewhere(
    history: Sequence[AttemptRow],
    lead: int,
    hosts: Mapping[int, HostRow],
    present: Collection[int],
    yard: str,
) -> list[Kept]:
    """The hosts other than this one (by id) that have checkpoints of a job, or may have, the newest first.

    Of one that fell silent nobody knows what it has: it is asked first.
    """
    steps: dict[int, int | None] = {}
    for attempt in history:
        step, lost = checkpoint_step(attempt), attempt.outcome is Outcome.LOST and bool(attempt.steps)
        if attempt.host_id != lead and (step is not None or lost):
            steps[attempt.host_id] = step  # it began with what earlier ones had left there
    newest = sorted(steps.items(), key=lambda pair: math.inf if pair[1] is None else pair[1], reverse=True)
    return [
        Kept(
            host=hosts[host_id].name,
            home=str(yard_root(hosts[host_id].info["home"], yard)),
            step=step,
            away=host_id not in present,
        )
        for host_id, step in newest
        if host_id in hosts
    ]


def _place(attempt: AttemptRow, rank: int) -> int:
    """The host of a rank."""
    return attempt.gpus[rank].host_id if len(attempt.hosts) > 1 else attempt.host_id
