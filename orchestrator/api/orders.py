"""What the database says that hosts are to do now: read for all whose reports were stored together."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping

from jobs.identity import AttemptKey
from jobs.jobfile.spec import JobSpec
from jobs.messages.reports import AttemptOffsets, HostOrders, HostReport, StopOrder, TraceRequest
from orchestrator.api.checkpoints import kept_orders
from orchestrator.api.context import Services
from orchestrator.config import Settings
from orchestrator.control.outcomes import stop_grace_s
from orchestrator.store.hosts.open_parts import OpenHere
from orchestrator.store.rows import AttemptRow


def orders(known: Services, reports: Mapping[int, HostReport]) -> dict[int, HostOrders]:
    """The answer to each of these reports, by host."""
    open_on, traces = known.store.open_on(reports), _traces(known, reports)
    for host_id, here in open_on.items():
        here.offsets.extend(_as_told(reports[host_id], here.unreadable))
    # Most of what hosts speak of is open there: only the rest is looked for.
    ours = {(one.attempt_id, one.uuid) for here in open_on.values() for one in here.offsets}
    others = [key for news in reports.values() for key in news.here if (key.attempt_id, key.uuid) not in ours]
    strange = set(known.store.strange_attempts(others)) if others else set()
    mentioned = {host_id: _mentioned(news, strange) for host_id, news in reports.items()}
    closed = known.store.closed({one for ids in mentioned.values() for one in ids} - {one for one, _ in ours})
    return {
        host_id: HostOrders(
            epoch=news.epoch,
            stops=_stops(open_on[host_id], known.settings),
            traces=traces.get(host_id, []),
            attempts=open_on[host_id].offsets,
            ray_address=known.ray_address(),
            forget=sorted(mentioned[host_id] & closed),
            sends=known.relay.orders(host_id),
            strange=[key for key in news.here if key in strange] if strange else [],
            **kept_orders(known, news),
        )
        for host_id, news in reports.items()
    }


def _as_told(news: HostReport, unreadable: Collection[int]) -> list[AttemptOffsets]:
    """Open attempts that can't be read, by the host's own word: what it is not told of as open, it ends."""
    return [
        AttemptOffsets(**dict(key), lead=False)  # it goes on without telling
        for key in news.here
        if key.attempt_id in unreadable
    ]


def _mentioned(news: HostReport, strange: Collection[AttemptKey]) -> set[int]:
    """The attempts that a report is about, without those that are none of this database."""
    named = {attempt.attempt_id for attempt in news.attempts} | set(news.running)
    return named - {key.attempt_id for key in news.here if key in strange} if strange else named


def _stops(here: OpenHere, settings: Settings) -> list[StopOrder]:
    return [stop for attempt in here.ending if (stop := _stop(attempt, settings))]


def _stop(attempt: AttemptRow, settings: Settings) -> StopOrder | None:
    """Whether the attempt is to end on its hosts: it was asked to, or it did on another one."""
    if attempt.stop_requested_at is not None:
        return StopOrder(
            attempt_id=attempt.id,
            uuid=attempt.uuid,
            reason=attempt.stop_reason or "cancelled",
            grace_s=settings.preempt_grace_s if attempt.stop_reason == "preempted" else settings.stop_grace_s,
        )
    grace_s = None
    with contextlib.suppress(ValueError):  # an end that this version can't read; the controller tells of it
        grace_s = stop_grace_s(attempt)
    if grace_s is None:
        return None
    return StopOrder(attempt_id=attempt.id, uuid=attempt.uuid, reason="stale", grace_s=grace_s)


def _traces(known: Services, host_ids: Collection[int]) -> dict[int, list[TraceRequest]]:
    """What each host is to trace and to count: of one and the same job in one go, which saves it a process."""
    counts = known.store.pending_lengths(host_ids)
    wanted = []
    for row in known.store.pending_profiles(host_ids):
        of_it = (one for one in counts if (one.host_id, one.spec) == (row.host_id, row.spec))
        count = next(of_it, None)
        wanted.append((row.host_id, row.key, row.spec, count.key if count else ""))
    taken = {data_key for *_, data_key in wanted}
    wanted += [(count.host_id, "", count.spec, count.key) for count in counts if count.key not in taken]
    requests: dict[int, list[TraceRequest]] = {}
    for host_id, key, spec, data_key in wanted:
        # The job file of another version: others are traced all the same.
        with contextlib.suppress(ValueError):
            request = TraceRequest(
                key=key,
                spec=JobSpec.model_validate(spec),
                trusted_models=list(known.settings.trusted_models),
                data_key=data_key,
            )
            requests.setdefault(host_id or 0, []).append(request)
    return requests
