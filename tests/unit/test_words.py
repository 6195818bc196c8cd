"""Reasons with the times among their figures, by the clock of whoever reads them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from orchestrator.cli import words

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
    ],
)
def test_a_reason_says_when_in_local_time(code, figures, said):
    assert words.why({"code": code, "text": "because", "figures": figures}, NOON) == said


def test_no_reason_is_no_words():
    assert words.why(None, NOON) == ""
