"""stats and usage: tables, JSON and CSV of what the server answers."""

from __future__ import annotations

import csv
import json
import time
from typing import Any

import pytest

from jobs.units import GiB
from orchestrator.cli.commands.watching.stats import BARS, FIELDS, spark
from tests.cli import scenes
from tests.cli.conftest import Tuneyard
from tests.cli.fake_server import FakeServer

PARTS = ("training_s", "startup_s", "recompute_s", "lost_s", "idle_s")


def line(name: str, **parts: float) -> dict[str, Any]:
    seconds = {part: parts.get(part, 0.0) for part in PARTS}
    beside = {"energy_j": 7.2e6, "energy_kwh": 2.0, "price": parts.get("price")}
    return {"name": name, "attempts": 2, "gpu_s": sum(seconds.values()), **seconds, **beside}


def answer(server: FakeServer, value: Any) -> None:
    server.raw = (200, "application/json", json.dumps(value).encode())


USAGE = {
    "by": "project",
    "since": 0.0,
    "until": 86400.0,
    "measured_until": 86300.0,
    "lines": [line("nlp", training_s=5400, idle_s=1800, price=4.5), line("vision\x1b[2J", lost_s=3600)],
    "total": line("total", training_s=5400, idle_s=1800, lost_s=3600),
}


def test_usage_is_hours_and_shares(server: FakeServer, tuneyard: Tuneyard) -> None:
    answer(server, USAGE)
    told = tuneyard("usage").out
    head, nlp, vision, total = told.splitlines()
    assert head.split() == [
        *("PROJECT", "GPU-HOURS", "TRAINING", "START-UP", "RECOMPUTE", "LOST", "IDLE", "KWH", "PRICE")
    ]
    assert nlp.split() == ["nlp", "2.00", "75.0%", "0.0%", "0.0%", "0.0%", "25.0%", "2.00", "4.50"]
    assert vision.split()[-8:] == ["1.00", "0.0%", "0.0%", "0.0%", "100.0%", "0.0%", "2.00", "-"]
    assert total.split()[:2] == ["total", "3.00"] and "\x1b" not in told


def test_usage_as_json_and_csv(server: FakeServer, tuneyard: Tuneyard) -> None:
    answer(server, USAGE)
    assert json.loads(tuneyard("usage", "--json").out) == USAGE
    rows = list(csv.DictReader(tuneyard("usage", "--csv").out.splitlines()))
    assert [row["gpu_s"] for row in rows] == ["7200.0", "3600.0"]
    assert "\x1b" not in rows[1]["name"]


@pytest.mark.parametrize(
    ("known", "said"), [(86300.0, ""), (43200.0, "1970-01-01 12:00 UTC"), (None, "so far")]
)
def test_usage_says_what_is_not_measured_yet(
    server: FakeServer, tuneyard: Tuneyard, known: float | None, said: str
) -> None:
    answer(server, {**USAGE, "measured_until": known})
    told = tuneyard("usage").err
    assert said in told and bool(said) == ("not taken up yet" in told)


def test_usage_of_nothing_says_so(server: FakeServer, tuneyard: Tuneyard) -> None:
    answer(server, {**USAGE, "lines": []})
    done = tuneyard("usage")
    assert done.out == "" and "no card was held" in done.err


def series(**values: Any) -> dict[str, Any]:
    empty = {stat: [None, None, None] for stat in ("mean", "min", "max")}
    told = {field: values.get(field, empty) for field in FIELDS}
    counts = {"n": [2, 0, 4], "cards": [1, 0, 1], "faults": [0, 0, 1], "energy_j": [None, None, 3.6e5]}
    found = [{"id": 1, "name": "h1", **counts, "values": told}]
    head = {"kind": "host", "since": 0.0, "until": 180.0, "step_s": 60, "source": "minute"}
    return {**head, "ts": [0, 60, 120], "series": found}


LOADED = series(
    utilization={"mean": [0.2, None, 0.8], "min": [0.1, None, 0.7], "max": [0.3, None, 1.0]},
    memory_used_bytes={"mean": [GiB, None, 4 * GiB], "min": [GiB, None, GiB], "max": [GiB, None, 8 * GiB]},
)


def test_stats_are_figures_and_a_sparkline(server: FakeServer, tuneyard: Tuneyard) -> None:
    answer(server, LOADED)
    done = tuneyard("stats", "--host", "h1", "--since", "3m")
    assert "/series" in server.requests[-1][1] and "kind=host" in server.requests[-1][1]
    _, load, memory, energy = done.out.splitlines()
    assert load.split()[:8] == ["h1", "utilisation", "60", "%", "10", "%", "100", "%"]
    assert load.rstrip().endswith("▂ ▇")
    assert memory.split() == ["memory", "3.0", "GiB", "1.0", "GiB", "8.0", "GiB", "▃", "█"]
    assert energy.split() == ["energy", "0.100", "kWh"]


def test_stats_as_csv_have_a_line_a_step_that_was_measured(server: FakeServer, tuneyard: Tuneyard) -> None:
    answer(server, LOADED)
    rows = list(csv.DictReader(tuneyard("stats", "--csv").out.splitlines()))
    assert [(row["ts"], row["n"], row["utilization_max"]) for row in rows] == [
        ("0", "2", "0.3"),
        ("120", "4", "1.0"),
    ]


def test_stats_of_two_kinds_at_once_are_refused(server: FakeServer, tuneyard: Tuneyard) -> None:
    done = tuneyard("stats", "--host", "h1", "--job", "7")
    assert done.code == 2 and "give one of them" in done.err


@pytest.mark.parametrize("count", [1, 40, 41, 300])
def test_a_sparkline_is_never_wider_than_its_column_and_keeps_the_peak(count: int) -> None:
    values: list[float | None] = [0.0] * count
    values[count // 2] = 1.0
    found = spark(values, "utilization")
    assert len(found) <= 40 and found.count(BARS[-1]) == 1


def held(job: int, **fields: Any) -> dict[str, Any]:
    """An attempt that held a card, as GET /gpus/CARD/jobs has it."""
    opened = time.time() - 7200
    beside = {
        "user": "ada",
        "project": "default",
        "state": "succeeded",
        "attempt": job,
        "number": 1,
        "rank": 0,
    }
    times = {"opened_at": opened, "started_at": opened + 5, "released_at": opened + 3600}
    sizes = {"promised_bytes": 20 * GiB, "projected_bytes": 18 * GiB, "measured_bytes": 17 * GiB}
    end = {"exclusive": True, "outcome": "succeeded", "message": None, "steps": 10}
    return {"job": job, "name": f"run-{job}", **beside, **times, **sizes, **end, **fields}


def test_one_card_has_its_events_and_jobs(server: FakeServer, tuneyard: Tuneyard) -> None:
    server.gpus = [scenes.gpu(1, job=12, fault="NVML: GPU is lost")]
    server.held = [held(12, outcome=None, released_at=None, measured_bytes=None), held(11)]
    at = {"ts": time.time() - 240, "by": None, "address": None, "attempt": None, "job": None, "card": 1}
    event = {
        "id": 7,
        "kind": "card_fault",
        "text": "takes no work: NVML: GPU is lost",
        "subject": "card box-1/0",
    }
    server.events = [{**at, **event, "host": "box-1"}]
    told = tuneyard("gpus", "box-1/0").out
    assert told.splitlines()[0] == "card box-1/0: A100-40GB"
    for said in ("30.00 GiB of 40.00 GiB in use", "job 12", "4m ago", "card_fault", "takes no work"):
        assert said in told
    lines = [line.split() for line in told.splitlines()]
    assert ["12", "run-12", "1", "ada", "2h", "ago", "2h00m", "running", "18.00", "GiB"] in lines
    (last,) = [line for line in lines if line[:1] == ["11"]]
    assert last[-5:] == ["succeeded", "18.00", "GiB", "17.00", "GiB"]
    as_json = tuneyard("gpus", "box-1/0", "--json").json
    assert [as_json["gpu"]["id"], len(as_json["jobs"]), len(as_json["events"])] == [1, 2, 1]
    ran = tuneyard("gpus", "box-9/0")
    assert ran.code != 0 and "there is no card box-9/0" in ran.err
