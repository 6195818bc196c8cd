"""`tuneyard show`: what it says of an attempt that measured nothing, diverged, or whose checkpoints are gone."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.cli import scenes
from tests.cli.conftest import Tuneyard
from tests.cli.fake_server import FakeServer


def shown(tuneyard: Tuneyard, server: FakeServer, job: dict[str, Any] | None = None, **attempt: Any) -> str:
    """Of one attempt that has ended."""
    tried = scenes.attempt(**{"outcome": "failed", "ended_at": time.time() - 9, **attempt})
    scenes.running(server, attempts_detail=[tried], **(job or {}))
    return tuneyard("show", "1", COLUMNS="160").out


@pytest.mark.parametrize(
    ("attempt", "why"),
    [
        ({"steps": 0}, "it ended before its first step"),
        ({"steps": None}, "it ended before its first step"),
        ({"steps": 9}, "no figure of its steps came from its host"),
        (
            {"steps": 9, "resumed": {"ts": 1.0, "step": 9, "job_id": None}},
            "every step was done before, it published the result",
        ),
    ],
)
@pytest.mark.parametrize("measured", [None, dict.fromkeys(scenes.MEASURED)])
def test_what_measured_nothing_is_not_called_incomparable(
    tuneyard: Tuneyard, server: FakeServer, measured: Any, attempt: dict[str, Any], why: str
) -> None:
    out = shown(tuneyard, server, measured=measured, errors=None, **attempt)
    assert f"  nothing was measured: {why}\n" in out
    assert "not comparable" not in out


def test_nothing_is_said_of_what_may_be_measured_yet(tuneyard: Tuneyard, server: FakeServer) -> None:
    out = shown(tuneyard, server, measured=None, errors=None, outcome=None, ended_at=None)
    assert "nothing was measured" not in out


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ({"first_loss": 5.756, "last_loss": 5.756, "last_loss_text": "nan"}, "5.756 -> nan"),
        ({"first_loss": None, "last_loss": None, "last_loss_text": "inf"}, "inf"),
        ({"first_loss": 5.756, "last_loss": 1.25, "last_loss_text": None}, "5.756 -> 1.250"),
        ({"first_loss": 5.756, "last_loss": 1.25e-7}, "5.756 -> 1.25e-07"),
    ],
)
def test_the_last_loss_is_the_last_one(
    tuneyard: Tuneyard, server: FakeServer, losses: dict[str, Any], said: str
) -> None:
    lines = [line.split(None, 1) for line in shown(tuneyard, server, **losses).splitlines()]
    assert ["loss", said] in lines


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("unneeded", "removed: the job has ended, and nothing goes on from them (serve --keep-checkpoints)"),
        ("replaced", "removed: later ones took their place"),
    ],
)
def test_checkpoints_that_are_gone_are_said_to_be(
    tuneyard: Tuneyard, server: FakeServer, gone: str, said: str
) -> None:
    out = shown(tuneyard, server, last_checkpoint="/c/step-40", checkpoints=[], checkpoints_gone=gone)
    assert f"  checkpoints    {said}\n" in out and "/c/step-40" not in out


def test_a_rate_is_told_once_and_by_its_name(tuneyard: Tuneyard, server: FakeServer) -> None:
    ended = shown(tuneyard, server, job={"state": "succeeded"}, outcome="succeeded")
    assert ended.count("tokens/s") == 1 and "  tokens/s, mean" in ended


def test_one_of_a_thing_is_no_plural(tuneyard: Tuneyard, server: FakeServer) -> None:
    shown(tuneyard, server, skipped=1)
    assert "  skipped        1 step (training.on_nan)\n" in tuneyard("show", "1").out
    ran = tuneyard("logs", "1", "--attempt", "3")
    assert ran.code == 2 and "has 1 attempt; --attempt 3" in ran.err
