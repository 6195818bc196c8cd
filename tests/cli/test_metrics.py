"""tuneyard metrics: table, CSV, JSON, text plot and picture."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.commands.jobs.curves import HEIGHT, NARROWEST, text_plot
from orchestrator.client.client import Client
from tests.cli import scenes
from tests.cli.conftest import Tuneyard
from tests.cli.fake_server import TOKEN, FakeServer


def point(step: int, loss: float | None = None, **values: Any) -> dict[str, Any]:
    """A line of training, as the API has it. NaN: as it says that."""
    made: dict[str, Any] = {
        "step": step,
        "total_steps": 100,
        "attempt": 1,
        "ts": 1000.0 + step,
        "loss": loss,
        "eval_loss": None,
        "learning_rate": 1e-4,
        "tokens": 512 * step,
        "tokens_per_s": 1234.5,
        "step_s": 0.5,
        "device_bytes": 2**30,
        "not_finite": {},
        **values,
    }
    for name in ("loss", "eval_loss"):
        if made[name] is not None and math.isnan(made[name]):
            made[name], made["not_finite"] = None, {**made["not_finite"], name: "nan"}
    return made


def evaluated(step: int, loss: float) -> dict[str, Any]:
    """An evaluation between two lines of training."""
    none = dict.fromkeys(("total_steps", "learning_rate", "tokens", "tokens_per_s", "step_s", "device_bytes"))
    return point(step, None, eval_loss=loss, **none)


@pytest.fixture
def trained(server: FakeServer) -> FakeServer:
    scenes.running(server)
    server.points = [point(1, 2.5), point(20, math.nan), evaluated(25, 1.75), point(100, 0.00012, attempt=2)]
    return server


def test_a_table(tuneyard: Tuneyard, trained: FakeServer) -> None:
    ran = tuneyard("metrics", "docs-lora")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "job 1 (docs-lora), running: step 100 of 100",
        "STEP  ATTEMPT   TIME     LOSS  EVAL LOSS  LEARNING RATE  TOKENS/S  STEP TIME    MEMORY",
        "   1        1     0s    2.500                    0.0001     1,234     500 ms  1.00 GiB",
        "  20        1    19s      nan                    0.0001     1,234     500 ms  1.00 GiB",
        "  25        1    24s               1.750",
        " 100        2  1m39s  0.00012                    0.0001     1,234     500 ms  1.00 GiB",
    ]


def test_csv_and_json_have_all_of_it(tuneyard: Tuneyard, trained: FakeServer) -> None:
    rows = list(csv.DictReader(io.StringIO(tuneyard("metrics", "1", "--csv").out)))
    assert [row["loss"] for row in rows] == ["2.5", "nan", "", "0.00012"]
    assert [row["eval_loss"] for row in rows] == ["", "", "1.75", ""]
    assert rows[0]["device_bytes"] == "1073741824"
    shown = tuneyard("metrics", "1", "--json").json
    assert shown["points"] == trained.points and shown["points"][1]["not_finite"] == {"loss": "nan"}
    with Client(trained.url, TOKEN) as client:
        assert client.metrics(1, every=2, last=3) == shown
    assert trained.requests[-1][1].endswith("/jobs/1/metrics?every=2&last=3")


def test_a_long_table_is_cut_evenly_and_keeps_what_stands_out(tuneyard: Tuneyard, server: FakeServer) -> None:
    scenes.running(server)
    server.points = [point(step, math.nan if step == 333 else 1.0) for step in range(1, 1001)]
    ran = tuneyard("metrics", "1")
    steps = [int(line.split()[0]) for line in ran.out.splitlines()[2:]]
    assert ran.err == f"{len(steps)} of 1,000 lines; --all, --last N or --every N shows others\n"
    assert len(steps) == 40 and (steps[0], steps[-1]) == (1, 1000) and 333 in steps
    assert tuneyard("metrics", "1", "--all").out.count("\n") == 1002
    assert tuneyard("metrics", "1", "--last", "100").out.count("\n") == 1002, (
        "what it asked for is shown whole"
    )


@pytest.mark.parametrize("state", ["queued", "running", "failed", "cancelled"])
def test_of_a_job_without_a_step_it_says_so(tuneyard: Tuneyard, server: FakeServer, state: str) -> None:
    server.add(name="new", state=state)
    for flags in ((), ("--plot",)):
        ran = tuneyard("metrics", "new", *flags)
        assert (ran.code, ran.out) == (0, "")
        assert (
            ran.err.startswith(f"job 1 (new) {'was' if state == 'cancelled' else ''}".rstrip())
            and state in ran.err
        )
    assert tuneyard("metrics", "new", "--csv").out.count("\n") == 1


@pytest.mark.parametrize(
    "flags",
    [
        ("--csv", "--json"),
        ("--plot", "x.png", "--csv"),
        ("--plot", "x.doc"),
        ("--every", "0"),
        ("--last", "-1"),
    ],
    ids=str,
)
def test_faults_of_flags(tuneyard: Tuneyard, server: FakeServer, flags: tuple[str, ...]) -> None:
    assert tuneyard("metrics", "1", *flags).code == 2
    assert server.requests == []


def test_a_plot_in_plain_text(tuneyard: Tuneyard, trained: FakeServer) -> None:
    out = tuneyard("metrics", "1", "--plot").out
    lines = out.splitlines()
    assert lines[0] == "job 1 (docs-lora), running: step 100 of 100"
    assert lines[-1].strip() == "step; * loss, o evaluation loss, ! not finite"
    assert "2.500 |*" in lines[1] and "!" in lines[1], "a loss that is no number stands above all"
    assert lines[HEIGHT].endswith("*") and "0.00012 |" in lines[HEIGHT]


def test_a_picture(tuneyard: Tuneyard, trained: FakeServer, tmp_path: Path) -> None:
    ran = tuneyard("metrics", "1", "--plot", "curves.png")
    assert (ran.code, ran.out, ran.err) == (0, "", "drew curves.png\n")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


losses = st.none() | st.floats(-1e30, 1e30) | st.just(math.nan)


@given(
    told=st.dictionaries(st.integers(0, 10**6), st.tuples(losses, losses), max_size=60),
    width=st.integers(1, 250),
)
def test_any_curve_fits_any_width(told: dict[int, tuple[float | None, float | None]], width: int) -> None:
    points = [point(step, loss, eval_loss=test) for step, (loss, test) in sorted(told.items())]
    lines = text_plot(points, width).splitlines()  # type: ignore[arg-type]
    assert len(lines) == HEIGHT + 3
    assert max(map(len, lines[: HEIGHT + 2])) <= max(NARROWEST + 12, width)
    shown = "".join(line.partition("|")[2] for line in lines[:HEIGHT])
    assert ("!" in shown) == any(point["not_finite"] for point in points)
    if any(point["loss"] is not None for point in points):
        assert set("*o!") & set(shown)


def test_lines_are_followed_to_the_end_of_the_job(tuneyard: Tuneyard, trained: FakeServer) -> None:
    """More come at each look: each is printed once, that of step 100 again with its evaluation, and then it ends."""
    later = [[point(150, 0.5, attempt=2)], [point(100, 0.00012, attempt=2, eval_loss=1.5)]]

    def look(job: dict[str, Any]) -> None:
        if not later:
            trained.end(job, "failed", "timeout", "its time limit of 2h00m has passed")
            return
        for new in later.pop():
            trained.points = sorted(
                [*(old for old in trained.points if old["step"] != new["step"]), new],
                key=lambda one: (one["attempt"], one["step"]),
            )

    trained.on_metrics = look
    ran = tuneyard("metrics", "docs-lora", "--follow")
    assert ran.code == 0, ran.err
    titles, *rows = ran.out.splitlines()
    assert titles.split()[:3] == ["STEP", "ATTEMPT", "TIME"]
    assert [row.split()[0] for row in rows] == ["1", "20", "25", "100", "150"]
    assert len({len(row) for row in rows if "GiB" in row}) == 1, "columns stay where they are"
    assert ran.err.splitlines() == [
        "job 1 (docs-lora) is running",
        "job 1 (docs-lora) failed: its time limit of 2h00m has passed",
    ]


def test_an_evaluation_that_comes_late_is_told(tuneyard: Tuneyard, trained: FakeServer) -> None:
    looks: list[int] = []

    def look(job: dict[str, Any]) -> None:
        looks.append(1)
        if len(looks) == 2:
            trained.points[-1] = {**trained.points[-1], "eval_loss": 1.5}
        if len(looks) == 3:
            trained.end(job, "succeeded")

    trained.on_metrics = look
    ran = tuneyard("metrics", "1", "-f", "--csv")
    lines = [line.split(",") for line in ran.out.splitlines()]
    assert [line[0] for line in lines] == ["step", "1", "20", "25", "100", "100"]
    assert [line[4] for line in lines[-2:]] == ["", "1.5"]


def test_following_gives_one_json_value_and_no_picture(tuneyard: Tuneyard, trained: FakeServer) -> None:
    trained.end(trained.jobs[1], "succeeded")
    assert tuneyard("metrics", "1", "--follow", "--json").json["points"] == trained.points
    ran = tuneyard("metrics", "1", "--follow", "--plot")
    assert (ran.code, "--follow prints lines" in ran.err) == (2, True)
    assert len(tuneyard("metrics", "1", "--follow", "--last", "2").out.splitlines()) == 3
    assert len(tuneyard("metrics", "1", "--follow", "--every", "2").out.splitlines()) == 3
