"""accuracy: its tables, its JSON, its picture, and what it says without matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.units import GiB
from orchestrator.client.client import Client
from tests.cli.conftest import ROOT, Tuneyard
from tests.cli.fake_server import TOKEN, FakeServer

NOTHING: dict[str, Any] = {
    "attempts": [],
    "counted": 0,
    "left_out": {},
    "ran_out": 0,
    "coverage": {"covered": 0, "of": 0, "share": None, "asked": None},
    "figures": [
        {"figure": name, "count": 0, "median_error": None, "bias": None, "worst": None}
        for name in ("allocated", "reserved", "device")
    ],
    "groups": [],
    "worst": [],
}


def row(job: int, error: float, outcome: str = "succeeded") -> dict[str, Any]:
    projected, ran_out = 20 * GiB, outcome == "oom"
    return {
        "job": job,
        "name": f"job-{job}",
        "attempt": 1,
        "ts": 1.0,
        "family": "llama",
        "method": "lora",
        "quantisation": "none",
        "card": "NVIDIA A10G",
        "card_bytes": 23 * GiB,
        "rung": "off, 4×2",
        "outcome": outcome,
        "phase": "backward",
        "sequence_length": 1024,
        "confidence": 0.95,
        "margin_group": "prior",
        "projected": {
            "allocated_bytes": 18 * GiB,
            "reserved_bytes": 19 * GiB,
            "device_bytes": projected,
            "upper_bytes": 21 * GiB,
            "step_s": 1.0,
        },
        "measured": {
            "allocated_bytes": None,
            "reserved_bytes": None,
            "device_bytes": None if ran_out else round(projected * (1 + error)),
            "step_s": 1.2,
        },
        "error": error,
        "not_comparable": None,
        "covered": not ran_out and error <= 0.05,
    }


@pytest.fixture
def measured(server: FakeServer) -> FakeServer:
    rows = [row(1, 0.02), row(2, -0.01), row(3, 0.15, "oom")]
    server.accuracy = {
        "attempts": rows,
        "counted": 3,
        "left_out": {"roomy_card": 2, "unmeasured": 1, "older": 1200},
        "ran_out": 1,
        "coverage": {"covered": 2, "of": 3, "share": 2 / 3, "asked": 0.95},
        "parts": [
            {"part": "live", "covered": 2, "of": 2, "share": 1.0},
            {"part": "beside", "covered": 0, "of": 0, "share": None},
        ],
        "figures": [
            *NOTHING["figures"][:2],
            {"figure": "device", "count": 2, "median_error": 0.015, "bias": 0.005, "worst": 0.02},
        ],
        "groups": [
            {
                "family": "llama",
                "method": "lora",
                "quantisation": "none",
                "card": "NVIDIA A10G",
                "count": 3,
                "ran_out": 1,
                "covered": 2,
                "judged": 3,
                "median_error": 0.015,
                "worst": 0.02,
                "low": -0.041,
                "high": 0.197,
                "beside_low": -0.2,
                "beside_high": 0.31,
                "margin_group": "prior, widened by llama, lora, NVIDIA A10G",
                "confidence": 0.95,
                "speed": 1.2,
            }
        ],
        "worst": [rows[2], rows[0], rows[1]],
    }
    return server


def test_accuracy(tuneyard: Tuneyard, measured: FakeServer) -> None:
    ran = tuneyard("accuracy", "--worst", "2", COLUMNS="300")
    assert ran.code == 0, ran.err
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert lines[:4] == [
        "3 attempts were measured; 3 can be compared",
        "left out: 2 attempts had a CPU card with room to spare, where malloc keeps what is freed",
        "left out: 1 attempt ended before anything was measured",
        "left out: 1,200 attempts older than --limit reaches",
    ]
    assert "coverage 2 of 3 under their upper bound, 67% (95% was asked for)" in lines
    assert "live bytes 2 of 2 under a bound of their own, 100%" in lines
    assert not any(line.startswith("beside them") for line in lines), "nobody could tell"
    assert "device median error 1.5%, bias +0.5%, worst +2.0% (2 attempts)" in lines
    assert "llama lora NVIDIA A10G 3 1 2 of 3 1.5% +2.0% -4.1% to +19.7%, -20.0% to +31.0%" in next(
        line for line in lines if line.startswith("llama")
    )
    misses = lines[lines.index("worst misses") + 2 :]
    assert len(misses) == 2
    assert misses[0] == (
        "3 1 llama lora NVIDIA A10G off, 4×2 20.00 GiB 21.00 GiB over 23.00 GiB ≥ +15.0% oom"
    )
    assert ("GET", "/api/v1/accuracy?limit=2000", None) in measured.requests


def test_accuracy_before_anything_was_measured(
    tuneyard: Tuneyard, server: FakeServer, tmp_path: Path
) -> None:
    server.accuracy = NOTHING
    ran = tuneyard("accuracy")
    assert (ran.code, ran.out) == (0, "") and "nothing was measured yet" in ran.err
    for more in ((), ("--json",)):
        ran = tuneyard("accuracy", "--plot", "empty.png", *more)
        assert ran.code == 1 and "empty.png: nothing to draw" in ran.err and "Traceback" not in ran.err
        assert not (tmp_path / "empty.png").exists()
    assert ran.json == NOTHING


def test_accuracy_as_json_and_from_python(tuneyard: Tuneyard, measured: FakeServer) -> None:
    assert tuneyard("accuracy", "--json", "--limit", "7").json == measured.accuracy
    assert measured.requests[-1][1] == "/api/v1/accuracy?limit=7"
    with Client(measured.url, TOKEN) as client:
        assert client.accuracy()["coverage"]["of"] == 3


def test_the_picture(tuneyard: Tuneyard, measured: FakeServer, tmp_path: Path) -> None:
    ran = tuneyard("accuracy", "--plot", "seen.png", "--json")
    assert (ran.code, ran.json["counted"]) == (0, 3), ran.err
    assert (tmp_path / "seen.png").stat().st_size > 10_000
    assert tuneyard("accuracy", "--plot", "seen.svg").code == 0
    text = (tmp_path / "seen.svg").read_text()
    assert "<svg" in text


@pytest.mark.parametrize(
    ("name", "says"),
    [("seen.gif", "ends in .png, .svg or .pdf"), ("nowhere/seen.png", "nowhere does not exist")],
)
def test_a_picture_that_can_not_be_written_is_refused_before_anything_is_asked(
    tuneyard: Tuneyard, measured: FakeServer, name: str, says: str
) -> None:
    ran = tuneyard("accuracy", "--plot", name)
    assert ran.code == 2 and says in ran.err
    assert measured.requests == []


def test_without_matplotlib_it_says_what_to_install(
    tuneyard: Tuneyard, measured: FakeServer, tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden" / "matplotlib"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('not here')\n")
    path = f"{hidden.parent}:{ROOT}"
    ran = tuneyard("accuracy", "--plot", "seen.png", PYTHONPATH=path)
    assert ran.code == 2 and "pip install 'tuneyard[plot]'" in ran.err
    assert tuneyard("accuracy", PYTHONPATH=path).code == 0, "tables need none"


def test_forget_asks_before_it_does(tuneyard: Tuneyard, measured: FakeServer) -> None:
    ran = tuneyard("accuracy", "forget")
    assert ran.code == 2 and "nothing is named" in ran.err
    ran = tuneyard("accuracy", "forget", "--family", "llama", "--card", "cpu")
    assert ran.code == 2 and "2 measurements of 1 job would no longer count; give --yes" in ran.err
    asked = {"family": "llama", "card": "cpu"}
    assert measured.requests[-1] == ("POST", "/api/v1/accuracy/forget", {**asked, "dry_run": True})
    ran = tuneyard("accuracy", "forget", "--job", "7", "--yes")
    assert (ran.code, ran.out) == (0, "2 measurements of 1 job will no longer count\n")
    assert measured.requests[-1] == ("POST", "/api/v1/accuracy/forget", {"job": "7"})
    assert tuneyard("accuracy", "forget", "--card", "cpu", "--yes", "--json").json == {
        "attempts": 2,
        "jobs": 1,
    }


def test_outliers_are_named(tuneyard: Tuneyard, measured: FakeServer) -> None:
    measured.accuracy["outliers"] = 1
    measured.accuracy["worst"][0]["outlier"] = True
    out = tuneyard("accuracy", COLUMNS="300").out
    assert "outliers" in out and "1 attempt far from all others" in out and "oom, outlier" in out
