"""`tuneyard simulate` as people run it: a process, files, exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Tuneyard
from tests.cli.fake_server import FakeServer
from tests.cli.test_start import HEAVY, imported

FLEET = "hosts: [{gpus: 4, card: h100, pool: west}, {gpus: 4, card: rtx4090, pool: east}]\n"
# Two jobs want all of `west`, so one waits for the other; the third has `east` to itself.
TRACE = """job_id,submit_s,duration_s,gpus,user,pool
1,0,100,4,ada,west
2,10,50,4,bob,west
3,20,40,1,eve,east
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (tmp_path / "trace.csv").write_text(TRACE)
    return tmp_path


def test_a_table_for_people(bare: Tuneyard, files: Path):
    done = bare("simulate", "trace.csv", "--fleet", "fleet.yaml", "--policy", "fifo,shortest", "--by", "pool")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("3 jobs of trace.csv on 2 hosts, 2 pools: 4 × H100 80GB HBM3")
    lines = [line.split() for line in done.out.splitlines()]
    assert [line[0] for line in lines[2:4]] == ["fifo", "shortest"]
    assert any(line[:3] == ["west", "2", "fifo"] for line in lines)
    assert any(line[:3] == ["POOL", "JOBS", "POLICY"] for line in lines)


def test_figures_worked_by_hand(bare: Tuneyard, files: Path):
    found = bare(
        "simulate", "trace.csv", "--fleet", "fleet.yaml", "--policy", "fifo", "--no-preempt", "--json"
    ).json
    (fifo,) = found["results"]
    # Job 2 waits from 10 to 100 and ends at 150: 100, 140 and 40 seconds from submission to completion.
    assert fifo["jct"]["mean"] == pytest.approx((100 + 140 + 40) / 3)
    assert fifo["wait"]["most"] == 90.0
    assert (fifo["makespan_s"], fifo["preemptions"], fifo["unfinished"]) == (150.0, 0, 0)
    assert fifo["gpu_hours"] == pytest.approx((400 + 200 + 40) / 3600)
    assert found["fleet"]["pools"] == {"west": 4, "east": 4}


def test_pools_as_walls_or_none(bare: Tuneyard, files: Path):
    def waited(partition: str) -> float:
        args = ["--fleet", "fleet.yaml", "--policy", "fifo", "--partition", partition, "--json"]
        (one,) = bare("simulate", "trace.csv", *args).json["results"]
        return float(one["wait"]["most"])

    assert waited("pools") == 90.0
    assert (
        waited("none") == 40.0
    )  # the second gang has the other four cards, and the third job waits for those


def test_a_made_up_trace_is_saved_and_gives_the_same_again(bare: Tuneyard, files: Path):
    args = ("--fleet", "fleet.yaml", "--policy", "attained", "--json")
    made = bare(
        "simulate", "--generate", "jobs=60,users=4,seed=3,longest_s=9000", "--save", "made.csv", *args
    )
    assert made.code == 0 and "made.csv has 60 jobs" in made.err
    again = bare("simulate", "made.csv", *args)
    results = [{**run.json["results"][0], "took_s": 0} for run in (made, again)]
    assert results[0] == results[1]


def test_a_picture(bare: Tuneyard, files: Path):
    done = bare("simulate", "trace.csv", "--fleet", "fleet.yaml", "--plot", "picture.png")
    assert done.code == 0 and "drawn in picture.png" in done.err
    assert (files / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_guarantees_above_the_fleet_are_warned_of(bare: Tuneyard, files: Path):
    (files / "fleet.yaml").write_text(FLEET + "projects: {west: {guarantee: 6}, vision: {guarantee: 9}}\n")
    done = bare("simulate", "trace.csv", "--fleet", "fleet.yaml")
    assert done.code == 0
    assert "warning: guarantees add up to 15 GPUs, the fleet has 8" in done.err
    assert "warning: no job belongs to vision" in done.err


def test_misfits_are_named_or_left_out(bare: Tuneyard, files: Path):
    (files / "trace.csv").write_text(TRACE + "4,30,60,5,ada,west\n5,30,60,1,ada,north\n")
    refused = bare("simulate", "trace.csv", "--fleet", "fleet.yaml")
    assert refused.code == 2
    assert "line 5, gpus: pool west has 4 GPUs (given: 5)" in refused.err
    assert "line 6, pool: is no pool of the fleet (given: north); it has east, west" in refused.err
    done = bare("simulate", "trace.csv", "--fleet", "fleet.yaml", "--skip-misfits", "--json")
    assert done.code == 0 and done.json["trace"]["jobs"] == 3
    assert "left out 2 jobs" in done.json["warnings"][0]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--fleet", "fleet.yaml"), "there are no jobs to simulate; give one of TRACE"),
        (("trace.csv",), "--fleet is missing"),
        (("trace.csv", "--generate", "", "--fleet", "fleet.yaml", "--from-history"), "exclude each other"),
        (("trace.csv", "--fleet", "fleet.yaml", "--policy", "lottery"), "--policy 'lottery' is none"),
        (("trace.csv", "--fleet", "fleet.yaml", "--policy", ","), "--policy names none; write some of fair"),
        (("trace.csv", "--fleet", "fleet.yaml", "--known", "maybe"), "'maybe' is not one of"),
        (("trace.csv", "--fleet", "fleet.yaml", "--stop", "40"), "--stop '40' is not a duration"),
        (("trace.csv", "--fleet", "fleet.yaml", "--where", "pool"), "--where 'pool' is no condition"),
        (("trace.csv", "--fleet", "fleet.yaml", "--plot", "p.gif"), "--plot p.gif: give it a name"),
        (("gone.csv", "--fleet", "fleet.yaml"), "gone.csv can't be read: No such file"),
        (("trace.csv", "--fleet", "gone.yaml"), "gone.yaml can't be read: No such file"),
        (("--generate", "job=3", "--fleet", "fleet.yaml"), "did you mean jobs?"),
        (
            ("trace.csv", "--fleet", "fleet.yaml", "--save", "no/where.csv"),
            "--save no/where.csv can't be written",
        ),
    ],
)
def test_bad_usage(bare: Tuneyard, files: Path, args: tuple[str, ...], said: str):
    done = bare("simulate", *args)
    assert done.code == 2, done.err
    assert said in done.err


def test_a_faulty_trace_is_one_json_value_too(bare: Tuneyard, files: Path):
    (files / "trace.csv").write_text("submit_s,duration_s,gpus\n0,60,x\n")
    done = bare("simulate", "trace.csv", "--fleet", "fleet.yaml", "--json")
    assert done.code == 2
    (fault,) = done.json["error"]["faults"]
    assert (fault["path"], fault["given"]) == ("line 2, gpus", "x")


def test_a_server_is_asked_for_history_only(bare: Tuneyard, files: Path):
    done = bare("simulate", "--from-history")
    assert done.code == 1 and "no tuneyard server is known" in done.err


def test_the_history_of_a_server(tuneyard: Tuneyard, server: FakeServer, files: Path):
    server.history = [
        {"job_id": 4, "submitted_at": 900.0, "user": "ada", "project": "p", "priority": 50, "seconds": 100.0}
        | {"gpus": 2, "card": "NVIDIA L4"},
        {"job_id": 6, "submitted_at": 910.0, "user": "bob", "project": "p", "priority": 50, "seconds": 50.0}
        | {"gpus": 2, "card": "NVIDIA L4"},
    ]
    server.hosts = [{"id": 1, "name": "alpha", "labels": {}}]
    card = {"host": "alpha", "kind": "cuda", "name": "NVIDIA L4", "memory_bytes": 24 << 30}
    server.gpus = [{"id": i, "uuid": f"GPU-{i}", "index": i, **card} for i in (0, 1)]
    done = tuneyard("simulate", "--from-history", "--policy", "fifo", "--no-preempt", "--json")
    assert done.code == 0, done.err
    (fifo,) = done.json["results"]
    assert (fifo["wait"]["most"], fifo["makespan_s"]) == (90.0, 150.0)
    assert done.json["fleet"]["text"].startswith("1 host: 2 × NVIDIA L4")
    another = tuneyard("simulate", "--from-history", "--fleet", "fleet.yaml", "--json").json["results"][0]
    assert another["wait"]["most"] == 0.0


def test_a_history_is_simulated_under_the_terms_of_the_servers_projects(
    tuneyard: Tuneyard, server: FakeServer
):
    ended = {
        "priority": 50,
        "seconds": 100.0,
        "gpus": 1,
        "card": "NVIDIA L4",
        "user": "ada",
        "project": "strict",
    }
    server.history = [{"job_id": number, "submitted_at": 900.0, **ended} for number in (1, 2)]
    server.hosts = [{"id": 1, "name": "alpha", "labels": {}}]
    card = {"host": "alpha", "kind": "cuda", "name": "NVIDIA L4", "memory_bytes": 24 << 30}
    server.gpus = [{"id": i, "uuid": f"GPU-{i}", "index": i, **card} for i in (0, 1)]
    terms = {"name": "strict", "guarantee": 1, "weight": 1.0, "borrows": False, "queued": 0, "gpus": 0}
    for own_terms, longest in ((True, 100.0), (False, 0.0)):
        server.projects["projects"] = [{**terms, "own_terms": own_terms}]
        (result,) = tuneyard("simulate", "--from-history", "--json").json["results"]
        assert result["wait"]["most"] == longest


def test_how_soon_a_job_may_be_stopped(bare: Tuneyard, files: Path):
    """Job 2 is urgent: it has the cards of job 1 once that has run for as long as is said, and has saved."""
    (files / "trace.csv").write_text("submit_s,duration_s,gpus,priority\n0,1000,4,low\n10,50,4,high\n")
    (files / "one.yaml").write_text("hosts: [{gpus: 4, card: h100}]\n")
    for flags, waited in (((), 300 + 40 - 10), (("--min-run", "1m"), 60 + 40 - 10)):
        done = bare("simulate", "trace.csv", "--fleet", "one.yaml", *flags, "--by", "gpus", "--json")
        (result,) = done.json["results"]
        assert result["preemptions"] == 1
        # Job 1 waits for the 50 s of job 2 alone.
        assert result["wait"]["mean"] * 2 == pytest.approx(waited + 50, abs=2)


def test_what_is_left_out_is_not_told_to_be_left_out(bare: Tuneyard, files: Path):
    (files / "huge.csv").write_text("submit_s,duration_s,gpus\n0,10,640\n")
    refused = bare("simulate", "huge.csv", "--fleet", "fleet.yaml")
    assert "--skip-misfits" in refused.err
    refused = bare("simulate", "huge.csv", "--fleet", "fleet.yaml", "--skip-misfits")
    assert (
        refused.code == 2 and "no job fits the fleet" in refused.err and "--skip-misfits" not in refused.err
    )


def test_a_server_without_history(tuneyard: Tuneyard, server: FakeServer):
    done = tuneyard("simulate", "--from-history")
    assert done.code == 2 and "no job has ended yet" in done.err


def test_help_imports_nothing_heavy(environment: dict[str, str]):
    assert not imported(environment, "simulate", "--help") & set(HEAVY)
