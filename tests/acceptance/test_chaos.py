"""`make chaos`, one of its cells: a fault at a moment that is hard to hit by hand."""

from __future__ import annotations

import json

import pytest

from benchmarks.chaos import __main__ as chaos
from benchmarks.chaos.faults import FAULTS

pytestmark = pytest.mark.acceptance


def test_no_work_is_lost_doubled_or_resumed_wrongly(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["chaos", "--faults", "trainer killed", "--phases", "checkpointing"])
    code = chaos.main()
    said = capsys.readouterr().out
    found = json.loads(said.splitlines()[-1])
    assert (code, found["met"], found["cells"]) == (0, True, 1), said
    assert found["lost"] == found["doubled"] == found["wrong_resumes"] == found["healthy_ended"] == 0
    assert [row["difference"] for row in found["rows"]] == [0.0], said


def test_only_known_faults_and_phases_are_taken() -> None:
    names = [fault.name for fault in FAULTS]
    assert chaos.chosen("host lost, server killed", names) == ["server killed", "host lost"]
    with pytest.raises(SystemExit, match="there is no 'server kiled'; known: server killed"):
        chaos.chosen("server kiled", names)
