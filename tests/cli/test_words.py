"""Reasons with the times among their figures, by the reader's clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from jobs.state import JobState, On
from orchestrator.cli.render import words
from orchestrator.control.snapshot.progress import blocked_of
from orchestrator.store.rows import LinkRow

NOON = 1_700_049_600.0  # Wednesday, 15 November 2023, 12:00 in UTC


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("code", "figures", "said"),
    [
        ("reserved", {"job": 41, "until": NOON + 7500}, "because until 14:05"),
        ("reserved", {"job": 41, "until": None}, "because"),
        ("backoff", {"until": NOON + 60}, "because until 12:01"),
        ("busy", {"reserved_for": NOON + 86_400}, "because from Thu 12:00"),
        ("busy", {"reserved_for": NOON + 18 * 86_400}, "because from 3 Dec 12:00"),
        ("room", {"awaits": [12], "asked_at": NOON - 4}, "because, asked 4s ago"),
        ("room", {"stops": [12]}, "because"),
        ("behind", {"until": NOON + 60}, "because"),
        ("busy", {"preempts": [7], "preempts_at": NOON + 7500}, "because, at 14:05"),
    ],
)
def test_a_reason_says_when_in_local_time(code, figures, said):
    assert words.why({"code": code, "text": "because", "figures": figures}, NOON) == said


def test_no_reason_is_no_words():
    assert words.why(None, NOON) == ""


@pytest.mark.parametrize(
    ("state", "text", "said"),
    [
        ("failed", "failed: no such row", "job 12 failed: no such row"),
        ("failed", "failed after 3 tries: no such row", "job 12 failed after 3 tries: no such row"),
        ("failed", "memory ran out after step 3", "job 12 failed: memory ran out after step 3"),
        ("succeeded", "200 steps done", "job 12 succeeded: 200 steps done"),
        ("cancelled", "cancelled at step 5", "job 12 was cancelled at step 5"),
        ("cancelled", "cancelled", "job 12 was cancelled"),
        ("running", "training", "job 12 is running"),
        (
            "queued",
            "waits for job 7 (running) to succeed",
            "job 12 is queued: waits for job 7 (running) to succeed",
        ),
    ],
    ids=str,
)
def test_a_state_and_its_reason_make_one_sentence(state: str, text: str, said: str) -> None:
    job: Any = {"id": 12, "name": "", "state": state, "reason": {"code": state, "text": text, "figures": {}}}
    assert words.sentence(job, 0.0) == said


@pytest.mark.parametrize(
    ("links", "said"),
    [
        ([(7, "success", "running")], "waits for job 7 (running) to succeed"),
        ([(7, "failure", "queued")], "waits for job 7 (queued) to fail"),
        (
            [(7, "any", "running"), (8, "success", "queued"), (9, "any", "queued"), (10, "any", "queued")],
            "waits for job 7 (running), job 9 (queued) to end, and for job 8 (queued) to succeed, and for 1 more",
        ),
    ],
    ids=str,
)
def test_what_a_job_waits_for(links: list[tuple[int, str, str]], said: str) -> None:
    reason = blocked_of([LinkRow(12, other, On(on), JobState(state)) for other, on, state in links])
    assert reason is not None
    assert reason.text == said
