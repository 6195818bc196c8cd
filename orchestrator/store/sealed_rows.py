"""What the store gives of secrets and of notifications: their values are sealed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SecretRow:
    """A secret of a project. box: as orchestrator/vault.py sealed it under the key of key_id."""

    project: str
    name: str
    key_id: str
    box: str
    set_at: float
    set_by: str


@dataclass(frozen=True)
class TargetRow:
    """Who is told. uid: what box is bound to, which has its URL and key; kinds: of events, with commas around each."""

    id: int
    uid: str
    project: str | None
    kind: str
    kinds: str
    host: str
    key_id: str
    box: str


@dataclass(frozen=True)
class NoticeRow:
    """What a target is to be told, and where it is."""

    id: int
    target_id: int
    ts: float
    kind: str
    text: str
    job_id: int | None
    tries: int
    next_at: float
    uid: str
    target_kind: str
    key_id: str
    box: str
