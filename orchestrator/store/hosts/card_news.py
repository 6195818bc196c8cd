"""Events of cards, written as their hosts report."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from jobs.messages.reports import GpuInfo, GpuSample, HostReport
from orchestrator.store.hosts.card_signs import Seen, healthy, signs_of
from orchestrator.store.requests import Note
from orchestrator.store.schema.tables import gpus, hosts

_NAMED = sa.select(
    gpus.c.id, gpus.c.uuid, gpus.c.idx, gpus.c.host_id, gpus.c.present, hosts.c.name
).select_from(gpus.join(hosts))


def note_signs(
    connection: sa.Connection,
    reports: Iterable[tuple[int, HostReport]],
    stored: Mapping[int, Iterable[Any]],
    now: float,
) -> None:
    """What these reports say of the health of cards. stored: the rows of gpus on their hosts, by host."""
    cards = {row.uuid: row for rows in stored.values() for row in rows}
    for host_id, report in reports:
        samples: dict[str, list[GpuSample]] = {}
        for sample in report.samples:
            samples.setdefault(sample.uuid, []).append(sample)
        for info in report.gpus:
            card = cards.get(info.uuid)
            if card is None or card.host_id != host_id:
                continue
            seen = _seen(info, samples.get(info.uuid, ()), now)
            if card.signs is None and healthy(seen):
                continue
            known, signs = signs_of(card.signs, seen)
            if known != card.signs:
                connection.execute(gpus.update().where(gpus.c.id == card.id).values(signs=known))
            for sign in signs:
                _note(connection, card.id, seen.ts, sign.kind, sign.text, dict(sign.data))


def _seen(info: GpuInfo, samples: Collection[GpuSample], now: float) -> Seen:
    """The newest of a report's readings; of errors of the driver, those of all."""
    xids = tuple(number for sample in samples for number in sample.xids or ())
    if not samples:
        return Seen(now, info.fault, xids=xids)
    last = max(samples, key=lambda sample: sample.ts)
    return Seen(last.ts, info.fault, last.throttle, last.ecc_corrected, last.ecc_uncorrected, xids)


def note_gone(connection: sa.Connection, gpu_ids: Collection[int], now: float) -> None:
    """Their hosts have these cards no more."""
    for gpu_id in gpu_ids:
        _note(connection, gpu_id, now, Note.CARD_GONE, "its host has it no more", {})


def note_back(connection: sa.Connection, at: Mapping[str, int], now: float) -> None:
    """Before the rows of cards change. at: by the uuid of each that changes, the id of the host that has it now."""
    for uuids in _pieces(sorted(at)):
        for card in connection.execute(_NAMED.where(gpus.c.uuid.in_(uuids))).all():
            if card.host_id != at[card.uuid]:
                moved = {"from": f"{card.name}/{card.idx}"}
                text = f"it was in {card.name} before"
                _note(connection, card.id, now, Note.CARD_BACK, text, moved, at[card.uuid])
            elif not card.present:
                _note(connection, card.id, now, Note.CARD_BACK, "its host has it again", {})


def _note(
    connection: sa.Connection,
    gpu_id: int,
    ts: float,
    kind: Note,
    text: str,
    data: dict[str, Any],
    host_id: int | None = None,
) -> None:
    """An event of a card, and of the host that has it. Notices name the card."""
    card = connection.execute(_NAMED.where(gpus.c.id == gpu_id)).one()
    told = f"card {card.name}/{card.idx} ({card.uuid}): {text}"
    there = host_id or card.host_id
    reads.note(connection, ts, kind, text, host_id=there, gpu_id=gpu_id, data=data, told=told)


def _pieces(uuids: list[str]) -> Iterable[list[str]]:
    return (uuids[start : start + reads.CHUNK] for start in range(0, len(uuids), reads.CHUNK))
