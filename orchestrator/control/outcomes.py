"""What several hosts say of the end of one attempt -> how it ended. Pure."""

from __future__ import annotations

from typing import Any

from jobs.messages.reports import Ended
from jobs.state import Outcome
from orchestrator.store.rows import AttemptRow

# For ranks to see by themselves that another is gone, and to say what they know, before they are ended by force.
FAILED_GRACE_S = 5.0
DONE_GRACE_S = 15.0  # for ranks to exit once rank 0 has succeeded


def ends_of(attempt: AttemptRow) -> dict[int, Ended]:
    """What each host (by id) said of an open attempt's end, in the order in which they did."""
    said = attempt.reported
    if said is None:
        return {}
    if "hosts" not in said:
        return {attempt.host_id: Ended.model_validate(said)}
    return {host_id: Ended.model_validate(ended) for host_id, ended in said["hosts"]}


def verdict(attempt: AttemptRow) -> Ended | None:
    """How it ended, None while a host has yet to say that none of its ranks runs any more.

    Rank 0's success is the attempt's. Else the first that failed by itself is why; what failed as an echo of that is
    not. Checkpoint, steps and pace are rank 0's in any case; the memory is that of the rank which failed.
    """
    ends = ends_of(attempt)
    if attempt.reported is not None and "hosts" not in attempt.reported:
        return ends[attempt.host_id]
    if not ends or attempt.hosts.keys() - ends.keys():
        return None
    lead = ends[attempt.host_id]
    if lead.outcome is Outcome.SUCCEEDED:
        return lead
    found = _first(attempt, ends)
    if found is None:
        text = f"the ranks lost each other: {lead.message}"
        return lead.model_copy(update={"outcome": Outcome.LOST, "message": text, "result": None})
    host_id, cause = found
    if host_id == attempt.host_id:
        return cause
    rank = cause.rank if cause.rank is not None else _first_rank(attempt, host_id)
    of_cause = {
        name: getattr(cause, name)
        for name in ("allocated_bytes", "reserved_bytes", "device_bytes", "bad_input")
    }
    message = f"rank {rank} on {attempt.hosts[host_id]}: {cause.message}"
    return lead.model_copy(
        update={**of_cause, "ts": cause.ts, "outcome": cause.outcome, "message": message, "result": None}
    )


def stop_grace_s(attempt: AttemptRow) -> float | None:
    """What the ranks of an open attempt are given to end in, now that some have; None: they may go on."""
    ends = ends_of(attempt)
    if len(attempt.hosts) == 1 or not ends:
        return None
    lead = ends.get(attempt.host_id)
    if lead is not None and lead.outcome is Outcome.SUCCEEDED:
        return DONE_GRACE_S
    return None if all(end.outcome is Outcome.SUCCEEDED for end in ends.values()) else FAILED_GRACE_S


def blamed(attempt: AttemptRow) -> frozenset[int]:
    """The hosts that an attempt which was lost, or never started, was let down by, as far as that is known."""
    if len(attempt.hosts) == 1:
        return frozenset((attempt.host_id,))
    found = _first(attempt, ends_of(attempt))
    return frozenset() if found is None else frozenset((found[0],))


def refusal(event: dict[str, Any], now: float) -> Ended:
    """How an attempt ended whose start the dispatcher refused: no job can make it.

    event: with `text` and, in `host`, on which it could not be started.
    """
    return Ended(ts=now, outcome=Outcome.NOT_STARTED, message=event["text"], host=event.get("host"))


def faulty(attempt: AttemptRow, ended: Ended) -> frozenset[int]:
    """The hosts on which no trainer can start, as this end tells."""
    return where(attempt, ended) if ended.outcome is Outcome.HOST_FAULT else frozenset()


def where(attempt: AttemptRow, ended: Ended) -> frozenset[int]:
    """The hosts that an end is about: that which it names, else those which let the attempt down."""
    named = frozenset(host_id for host_id, name in attempt.hosts.items() if name == ended.host)
    return named or blamed(attempt)


def _first(attempt: AttemptRow, ends: dict[int, Ended]) -> tuple[int, Ended] | None:
    """The first end that was no echo, with its host: the lead's where all stopped for the same reason."""
    failed = {
        host_id: end for host_id, end in ends.items() if not end.echo and end.outcome is not Outcome.SUCCEEDED
    }
    if not failed:
        return None
    host_id, first = next(iter(failed.items()))
    lead = failed.get(attempt.host_id)
    return (host_id, first) if lead is None or lead.outcome is not first.outcome else (attempt.host_id, lead)


def _first_rank(attempt: AttemptRow, host_id: int) -> int:
    return next((rank for rank, gpu in enumerate(attempt.gpus) if gpu.host_id == host_id), 0)
