"""Attempts that cannot speak for themselves any more: their host fell silent, or no trainer came up."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jobs.messages.reports import Ended
from jobs.state import Outcome
from orchestrator.config import Settings
from orchestrator.control.host_silence import Hearing
from orchestrator.control.outcomes import ends_of
from orchestrator.control.quarantine import Quarantine
from orchestrator.store import Store
from orchestrator.store.rows import AttemptRow, FleetRows

_WATCHING = "looking after it"


class Silent:
    """Says which attempts to give up. All waiting is counted by Hearing: a server that was deaf blames nobody."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        hearing: Hearing,
        quarantine: Quarantine,
        waited_s: Callable[[int], float],
    ) -> None:
        """waited_s: how long the host of an attempt that was handed over has been waited for."""
        self._waited_s = waited_s
        self._store, self._settings = store, settings
        self._hearing, self._quarantine = hearing, quarantine

    def given_up(self, rows: FleetRows, now: float) -> list[tuple[AttemptRow, Ended]]:
        """What ends here. Of a gang, the part of one host is noted as ended: the others are told, and end it."""
        silent: dict[int, float] = {}
        away: set[int] = set()
        for host in self._quarantine.each("host", rows.hosts, lambda one: one.id, _WATCHING, now):
            with self._quarantine.part("host", host.id, _WATCHING, now):
                silent[host.id] = self._hearing.host_silent_s(host, now)
                if not self._hearing.online(host, now, self._settings.away_after_s):
                    away.add(host.id)
        self._release(away, now)
        self._hearing.keep_only(("stopping",), {attempt.id for attempt in rows.attempts})
        over: list[tuple[AttemptRow, Ended]] = []
        for attempt in self._quarantine.each("attempt", rows.attempts, lambda one: one.id, _WATCHING, now):
            with self._quarantine.part("attempt", attempt.id, _WATCHING, now, attempt.job_id):
                for host_id, outcome, text in self._faults(attempt, silent, now):
                    if len(attempt.hosts) == 1:
                        over.append((attempt, self._ended(attempt, outcome, text, now)))
                    elif host_id not in ends_of(attempt):
                        ended = self._ended(attempt, outcome, text, now)
                        self._store.report_end(attempt.id, host_id, ended)
        return over

    def _release(self, away: set[int], now: float) -> None:
        """What hosts that are away were to trace and to count, others may. Of a whole fleet it costs two looks."""
        if not away:
            return
        for host_id in sorted(away & (self._store.tracing_hosts() | self._store.counting_hosts())):
            with self._quarantine.part("host", host_id, _WATCHING, now):
                self._store.release_profiles(host_id)
                self._store.release_lengths(host_id)

    def _faults(
        self, attempt: AttemptRow, silent: Mapping[int, float], now: float
    ) -> list[tuple[int, Outcome, str]]:
        """Which of its hosts (by id) let it down, and how."""
        # What never began can't be why its host went away.
        lost = Outcome.LOST if attempt.started_at else Outcome.NOT_STARTED
        gone = [
            (host_id, lost, f"host {name} has not been heard of for {silent[host_id]:.0f}s")
            for host_id, name in attempt.hosts.items()
            if silent.get(host_id, 0.0) > self._settings.lost_after_s
        ]
        if gone or attempt.started_at is not None:
            return gone
        asked_at, stopping_s = attempt.stop_requested_at, 0.0
        if asked_at is not None:
            stopping_s = self._hearing.silent_s(("stopping", attempt.id), asked_at, now)
        if stopping_s > self._settings.stop_grace_s:
            put_off = attempt.stop_reason == "preempted"
            outcome = Outcome.PREEMPTED if put_off else Outcome.CANCELLED
            return [(attempt.host_id, outcome, "stopped before it began")]
        if self._waited_s(attempt.id) > self._settings.start_deadline_s:
            text = f"no trainer came up on {attempt.host} within {self._settings.start_deadline_s:.0f}s"
            return [(attempt.host_id, Outcome.NOT_STARTED, text)]
        return []

    def _ended(self, attempt: AttemptRow, outcome: Outcome, text: str, now: float) -> Ended:
        """What is known of an attempt that can't speak for itself."""
        latest = self._store.latest_progress([attempt.id]).get(attempt.id)
        return Ended(
            ts=now,
            outcome=outcome,
            message=text,
            steps=latest.step if latest else 0,
            total_steps=latest.total_steps if latest else None,
            device_bytes=latest.device_bytes if latest else None,
            allocated_bytes=latest.allocated_bytes if latest else None,
            reserved_bytes=latest.reserved_bytes if latest else None,
        )
