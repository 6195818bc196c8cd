"""What hosts report, into the database. Every part is idempotent: the same report twice changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from jobs.errors import NotFound
from jobs.identity import is_derived
from jobs.messages.reports import AttemptReport, Ended, HostReport, Started
from jobs.state import Code, JobState, Reason
from orchestrator.store.attempts.host_faults import forget_fault
from orchestrator.store.attempts.reported_ends import parts_of, report_end
from orchestrator.store.engine.bulk import BulkInsert
from orchestrator.store.history.late import mark_late
from orchestrator.store.hosts.card_news import note_signs
from orchestrator.store.hosts.fleet import FleetStore
from orchestrator.store.hosts.series import SeriesStore
from orchestrator.store.hosts.telemetry import (
    SampleTuple,
    TelemetryStore,
    insert_samples,
    plain,
    sample_tuple,
)
from orchestrator.store.maintenance.epoch import misplaced, note_aside
from orchestrator.store.profiles import answer
from orchestrator.store.requests import Note
from orchestrator.store.schema.column_types import clean_text
from orchestrator.store.schema.tables import (
    attempts,
    evaluations,
    events,
    gpus,
    hosts,
    jobs,
    leases,
    log_chunks,
    progress,
)
from orchestrator.store.sequence_lengths import answer_lengths

JOIN_FIRST = "host {} is not known, or joined before the database was restored: join first"
_Report = tuple[int, HostReport]
# Built once: a report comes from every host every second, and building costs more than running.
_SEEN = (
    hosts.update()
    .where(hosts.c.id == sa.bindparam("host"))
    .values({name: sa.bindparam(name) for name in ("boot", "last_seen", "ray_ready", "running", "disks")})
)
_IDS: sa.BindParameter[int] = sa.bindparam("ids", expanding=True)
_KNOWN = (
    sa.select(hosts.c.id.label("known"), gpus)
    .select_from(hosts.outerjoin(gpus, gpus.c.host_id == hosts.c.id))
    .where(hosts.c.id.in_(_IDS))
)
_HELD = (
    sa.select(leases.c.gpu_id, leases.c.attempt_id, attempts.c.opened_at, leases.c.released_at)
    .select_from(leases.join(attempts).join(gpus, gpus.c.id == leases.c.gpu_id))
    .where(gpus.c.host_id.in_(_IDS))
    .where(sa.or_(leases.c.released_at.is_(None), leases.c.released_at >= sa.bindparam("since")))
)
_LOGS = (
    sa.select(attempts.c.id, attempts.c.log_bytes)
    .where(attempts.c.id.in_(_IDS))
    .order_by(attempts.c.id)
    .with_for_update(key_share=True)
)
_GROW = (
    attempts.update()
    .where(attempts.c.id == sa.bindparam("attempt"))
    .values(log_bytes=attempts.c.log_bytes + sa.bindparam("more"))
)
_UP = (
    jobs.update()
    .where(
        jobs.c.id == sa.bindparam("job"),
        jobs.c.state == JobState.RUNNING,
        jobs.c.reason_code == Code.STARTING,
    )
    .values(**reads.reason_values(Reason(Code.TRAINING, "training")))
)
_STARTED = (
    attempts.update()
    .where(
        attempts.c.id == sa.bindparam("attempt"),
        attempts.c.outcome.is_(None),
        attempts.c.started_at.is_(None),
    )
    .values(started_at=sa.bindparam("at"), started=sa.bindparam("said"))
)
_PROGRESS = [column.name for column in progress.c if column.name != "attempt_id"]
_TEST = ["step", "ts", "loss", "loss_text"]
_insert_progress = BulkInsert(progress, ["attempt_id", *_PROGRESS], ignore_known=True)
_insert_tests = BulkInsert(evaluations, ["attempt_id", *_TEST], ignore_known=True)
_insert_logs = BulkInsert(log_chunks, ["attempt_id", "start_byte", "text", "ts"])
_line, _test = attrgetter(*_PROGRESS), attrgetter(*_TEST)


@dataclass(frozen=True)
class _Held:
    """A card's lease, from opened to released (None: still held)."""

    attempt_id: int
    opened_at: float
    released_at: float | None


class ReportStore(FleetStore, TelemetryStore, SeriesStore):
    """Host reports."""

    def record_report(self, host_id: int, report: HostReport, now: float) -> None:
        """Stores what a host says. Raises NotFound where the host must join (again) first."""
        if self.record_reports([(host_id, report)], now):
            raise NotFound(JOIN_FIRST.format(host_id))

    def record_reports(self, reports: Sequence[tuple[int, HostReport]], now: float) -> set[int]:
        """Stores several hosts' reports under one commit. Returns the ids of hosts that must join first, or again."""
        with self.write() as connection:
            stored = _known(connection, {host_id for host_id, _ in reports})
            for host_id in misplaced(connection, reports):
                stored.pop(host_id, None)
            taken = sorted((pair for pair in reports if pair[0] in stored), key=lambda pair: pair[0])
            if taken:
                self._record(connection, taken, stored, now)
        return {host_id for host_id, _ in reports} - stored.keys()

    def _record(
        self, connection: sa.Connection, reports: list[_Report], stored: dict[int, list[Any]], now: float
    ) -> None:
        connection.execute(
            _SEEN,
            [
                {
                    "host": host_id,
                    "boot": report.boot,
                    "last_seen": now,
                    "ray_ready": report.ray_ready,
                    "running": report.running,
                    "disks": [disk.model_dump(mode="json") for disk in report.disks],
                }
                for host_id, report in reports
            ],
        )
        cards = [row for rows in stored.values() for row in rows]
        if self._have_gpus(connection, {host_id: report.gpus for host_id, report in reports}, now, cards):
            stored = _known(connection, stored.keys())
        note_signs(connection, reports, stored, now)
        self._record_attempts(connection, reports, now)
        note_aside(connection, reports, now)
        rows = _sample_tuples(connection, reports, stored)
        insert_samples(connection, rows)
        mark_late(connection, rows, now)
        for _, report in reports:
            for trace in report.traces:
                if trace.key:
                    answer(connection, trace, now)
                if trace.data_key:
                    answer_lengths(connection, trace, now)

    def _record_attempts(self, connection: sa.Connection, reports: list[_Report], now: float) -> None:
        news = [(host_id, item) for host_id, report in reports for item in report.attempts]
        if not news:
            return
        rows = _attempts(connection, {item.attempt_id for _, item in news})
        known = [
            (rows[item.attempt_id], host_id, item)
            for host_id, item in sorted(news, key=lambda pair: (pair[1].attempt_id, pair[0]))
            if item.attempt_id in rows and _is_of(item, rows[item.attempt_id])
        ]
        # The log, the progress and the start are those of rank 0, from its host.
        mine = [(row, item) for row, host_id, item in known if row.host_id == host_id]
        # An old number, or an attempt that is closed: from here on only its log counts.
        current = [(row, item) for row, item in mine if row.number == item.number and row.outcome is None]
        for row, item in current:
            if item.started is not None and row.started_at is None:
                _start(connection, row, item.started, now)
        for row, item in current:
            _keep(connection, row, item)
        self._append(connection, [(row, item) for row, item in mine if item.log], now)
        lines = [(row.id, *plain(_line(line))) for row, item in current for line in item.progress]
        _insert_progress(connection, lines)
        tests = [(row.id, *plain(_test(line))) for row, item in current for line in item.evaluations]
        _insert_tests(connection, tests)
        self.thin_lines(connection, Counter(line[0] for line in (*lines, *tests)))
        for row, item in current:
            for line in item.progress:
                if line.note:
                    _note_once(connection, row, Note.DATA_CHANGED, line.note, now)
                if line.tracker:
                    _note_once(connection, row, Note.TRACKER_LOST, line.tracker, now)
        self._record_ends(connection, known)

    def _append(self, connection: sa.Connection, news: list[tuple[Any, AttemptReport]], now: float) -> None:
        """Stores what of these logs is new. The rows are locked: another server may take the same report again."""
        items = {row.id: item for row, item in news}
        stored = [row for ids in reads.chunks(items) for row in connection.execute(_LOGS, {"ids": ids}).all()]
        chunks = [(id_, known, text, now) for id_, known in stored if (text := _new_text(items[id_], known))]
        if chunks:
            connection.execute(
                _GROW, [{"attempt": id_, "more": len(text.encode())} for id_, _, text, _ in chunks]
            )
            _insert_logs(connection, chunks)

    def _record_ends(self, connection: sa.Connection, known: list[tuple[Any, int, AttemptReport]]) -> None:
        """Ends of open attempts, from the hosts that take part in them."""
        over = [
            (row, host_id, item.ended)
            for row, host_id, item in known
            if item.ended is not None and row.number == item.number and row.outcome is None
        ]
        parts = parts_of(connection, {row.id for row, *_ in over})
        for row, host_id, ended in over:
            report_end(connection, row.id, host_id, ended, parts[row.id])

    def report_end(self, attempt_id: int, host_id: int, ended: Ended) -> None:
        """What became of an attempt on a host that can't say so itself. Its own word would win, had it come before."""
        with self.write() as connection:
            parts = parts_of(connection, {attempt_id})
            report_end(connection, attempt_id, host_id, ended, parts[attempt_id])


def _known(connection: sa.Connection, host_ids: Collection[int]) -> dict[int, list[Any]]:
    """Those of the hosts that are known, each with its rows of gpus."""
    found: dict[int, list[Any]] = {}
    for ids in reads.chunks(host_ids):
        for row in connection.execute(_KNOWN, {"ids": ids}).all():
            cards = found.setdefault(row.known, [])
            if row.id is not None:
                cards.append(row)
    return found


def _attempts(connection: sa.Connection, ids: Collection[int]) -> dict[int, Any]:
    names = (
        "id",
        "job_id",
        "host_id",
        "number",
        "outcome",
        "started_at",
        "log_bytes",
        "resumed",
        "checkpoints",
        "uuid",
    )
    query = sa.select(*(attempts.c[name] for name in names))
    return {
        row.id: row
        for part in reads.chunks(ids)
        for row in connection.execute(query.where(attempts.c.id.in_(part))).all()
    }


def _is_of(item: AttemptReport, row: Any) -> bool:
    """Whether news is of this attempt: after a restore another may have its id. An older agent names none."""
    return item.uuid == row.uuid if item.uuid else is_derived(row.uuid)


def _start(connection: sa.Connection, row: Any, started: Started, now: float) -> None:
    """The attempt's process is up. The job is touched before the attempt, as everywhere."""
    connection.execute(_UP, {"job": row.job_id})
    said = started.model_dump(mode="json")
    if connection.execute(_STARTED, {"attempt": row.id, "at": started.ts, "said": said}).rowcount:
        forget_fault(connection, row.host_id)
        text = "its process is up"
        reads.note(connection, now, Note.TRAINING, text, job_id=row.job_id, attempt_id=row.id, data=said)


def _note_once(connection: sa.Connection, row: Any, kind: Note, text: str, now: float) -> None:
    """An event of what a progress line tells besides; a report may come twice."""
    there = sa.select(events.c.id).where(
        events.c.job_id == row.job_id,
        events.c.attempt_id == row.id,
        events.c.kind == kind,
        events.c.text == text,
    )
    if connection.execute(there).first() is None:
        reads.note(connection, now, kind, text, job_id=row.job_id, attempt_id=row.id)


def _keep(connection: sa.Connection, row: Any, item: AttemptReport) -> None:
    """What the attempt resumed from, and the checkpoints beside it, where that is news."""
    said = {
        "resumed": None if item.resumed is None else item.resumed.model_dump(mode="json"),
        "checkpoints": None
        if item.checkpoints is None
        else [one.model_dump(mode="json") for one in item.checkpoints],
    }
    news = {name: value for name, value in said.items() if value is not None and value != getattr(row, name)}
    if news:
        connection.execute(
            attempts.update().where(attempts.c.id == row.id, attempts.c.outcome.is_(None)).values(**news)
        )


def _new_text(item: AttemptReport, known_bytes: int) -> str:
    """What of the log is beyond the bytes that are stored. A gap waits until the host sends what is missing."""
    if not isinstance(known_bytes, int):
        return ""  # SQLite keeps text there: its log waits, all else that the host tells is taken
    if item.log_offset > known_bytes:
        return ""
    new = clean_text(item.log).encode()[known_bytes - item.log_offset :]
    # Half a character at the cut becomes question marks, one a byte: offsets stay true.
    return new.decode(errors="surrogateescape").encode(errors="replace").decode()


def _sample_tuples(
    connection: sa.Connection, reports: list[_Report], stored: dict[int, list[Any]]
) -> list[SampleTuple]:
    """Rows of samples, each with the attempt that held its card at its time: spooled ones arrive late."""
    times = [sample.ts for _, report in reports for sample in report.samples]
    if not times:
        return []
    cards = {(row.host_id, row.uuid): row.id for rows in stored.values() for row in rows}
    held = _leases_since(connection, sorted(stored), min(times))
    rows = []
    for host_id, report in reports:
        for sample in report.samples:
            gpu_id = cards.get((host_id, sample.uuid))
            if gpu_id is not None:
                rows.append(sample_tuple(gpu_id, _holder(held.get(gpu_id, ()), sample.ts), sample))
    return rows


def _leases_since(connection: sa.Connection, host_ids: list[int], since: float) -> dict[int, list[_Held]]:
    held: dict[int, list[_Held]] = {}
    for ids in reads.chunks(host_ids):
        rows = connection.execute(_HELD, {"ids": ids, "since": since}).all()
        for gpu_id, attempt_id, opened_at, released_at in rows:
            held.setdefault(gpu_id, []).append(_Held(attempt_id, opened_at, released_at))
    return held


def _holder(held: Collection[_Held], ts: float) -> int | None:
    """The attempt that had the card then; None where none had, or several: what was read is of all of them."""
    then = [
        lease.attempt_id
        for lease in held
        if lease.opened_at <= ts and (lease.released_at is None or ts < lease.released_at)
    ]
    return then[0] if len(then) == 1 else None
