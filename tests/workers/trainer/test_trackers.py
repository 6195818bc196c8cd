"""Where curves go besides: TensorBoard for real; modules of ours stand in for trackers that need a server."""

from __future__ import annotations

import logging
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jobs.identity import Owner
from jobs.jobfile.spec import parse_spec
from jobs.messages.reports import Assignment, Ended
from jobs.state import Outcome
from tests.workers.builders import claimed, make_assignment
from tests.workers.trainer.test_stops import StopsAfter, run
from workers.attempt_folder import AttemptFolder
from workers.checkpoints.manifest import verify
from workers.trainer import trackers
from workers.trainer.trackers import environment, load
from workers.trainer.train import train

pytestmark = pytest.mark.timeout(300)
UUID = "7b0d4f0c5a6e4a0f8e0d3a1c2b3d4e5f"


def reporting(rows: Path, tokenizer: Path, *names: str, number: int = 1, **more: Any) -> Assignment:
    training = {"steps": 8, **more.pop("training", {})}
    made = make_assignment(
        rows, tokenizer, attempt_id=number, report_to=list(names), name="curves", training=training, **more
    )
    owner = made.mine.model_copy(update={"job_uuid": UUID})
    return made.model_copy(update={"owner": owner})


def trained(home: Path, assignment: Assignment) -> Ended:
    load(assignment, home)
    return train(assignment, claimed(home, assignment), home, home / "out", line_every_s=0.0)


@pytest.fixture(autouse=True)
def environment_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """load() sets what trackers read: each test begins without it."""
    names = ("WANDB_", "MLFLOW_", "TRACKIO_", "TENSORBOARD_")
    for name in ("WANDB_RUN_ID", "MLFLOW_RUN_ID", "TENSORBOARD_LOGGING_DIR", *environment_names()):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    assert not [name for name in trackers.os.environ if name.startswith(names)]


def environment_names() -> list[str]:
    assignment = Assignment.model_construct(
        spec=make_spec(), job_id=1, owner=Owner(job_id=1, job_uuid=UUID), rank=0
    )
    return [*environment(assignment, Path("/x"), {}), "MLFLOW_MAX_LOG_PARAMS"]


def make_spec() -> Any:
    return parse_spec({"model": "org/model", "data": "rows.jsonl"})


def losses_by_step(folder: Path) -> list[int]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [one.step for one in events.Scalars("train/loss")]


def test_tensorboard_has_each_step_of_all_attempts_once_and_comes_with_the_result(
    tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    first = reporting(rows, tokenizer, "tensorboard")
    load(first, tmp_path)
    stopped = run(tmp_path, StopsAfter(tmp_path, 1, step=3, reason="preempted"), first)
    assert (stopped.outcome, stopped.steps) == (Outcome.PREEMPTED, 4)
    # What came after the checkpoint is not of the run that goes on from it.
    folder = tmp_path / "jobs" / "1" / "tensorboard"
    (folder / "events.out.tfevents.9999999999.lost").write_bytes(b"")
    ended = trained(tmp_path, reporting(rows, tokenizer, "tensorboard", number=2))
    assert ended.outcome is Outcome.SUCCEEDED
    result = tmp_path / "out" / "job-1-curves"
    assert losses_by_step(result / "tensorboard") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert not list((result / "tensorboard").glob("*.lost"))
    assert any(name.startswith("tensorboard/") for name in verify(result)["files"])


STAND_IN = """
    import os, threading
    calls = []
    run = None
    class Config(dict):
        def update(self, *a, **k): pass
    config = Config()
    class Run:
        id, name, summary = "x", "y", {}
        def _label(self, **k): pass
    def init(**given):
        global run
        calls.append(("init", given, {k: v for k, v in os.environ.items() if k.startswith("WANDB_")}))
        begin()
        run = Run()
    def begin(): pass
    def define_metric(*a, **k): pass
    def log(what, **k): calls.append(("log", what, threading.current_thread().name))
    def finish(exit_code=0):
        global run
        run = None
        calls.append(("finish", exit_code))
"""


@pytest.fixture
def wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that stands in for wandb, as transformers' callback calls it."""
    place = tmp_path / "site"
    (place / "wandb" / "sdk" / "lib").mkdir(parents=True)
    (place / "wandb" / "__init__.py").write_text(textwrap.dedent(STAND_IN))
    for folder in ("sdk", "sdk/lib"):
        (place / "wandb" / folder / "__init__.py").write_text("")
    (place / "wandb" / "sdk" / "lib" / "config_util.py").write_text("class ConfigError(Exception): pass\n")
    (place / "wandb-0.0.dist-info").mkdir()
    (place / "wandb-0.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: wandb\nVersion: 0.0\n"
    )
    monkeypatch.syspath_prepend(str(place))
    # trl imports wandb with itself, where it is installed by then.
    monkeypatch.setattr("trl.trainer.base_trainer.is_wandb_available", lambda: False)
    yield __import__("wandb")
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        del sys.modules[name]


def test_all_attempts_of_a_job_are_one_run(tmp_path: Path, tokenizer: Path, rows: Path, wandb: Any) -> None:
    first = reporting(rows, tokenizer, "wandb")
    load(first, tmp_path)
    run(tmp_path, StopsAfter(tmp_path, 1, step=3, reason="preempted"), first)
    assert trained(tmp_path, reporting(rows, tokenizer, "wandb", number=2)).outcome is Outcome.SUCCEEDED
    begun = [call for call in wandb.calls if call[0] == "init"]
    assert len(begun) == 2
    for _, given, env in begun:
        assert given == {"project": "default", "name": "job-1-curves"}
        assert (env["WANDB_RUN_ID"], env["WANDB_RESUME"]) == (UUID, "allow")
        assert env["WANDB_DIR"] == str(tmp_path / "jobs" / "1")
    logged = [
        call[1]["train/global_step"] for call in wandb.calls if call[0] == "log" and "train/loss" in call[1]
    ]
    assert logged == [*range(1, 9)]
    assert {call[2] for call in wandb.calls if call[0] == "log"} == {"tracker-wandb"}
    assert [call for call in wandb.calls if call[0] == "finish"] == [("finish", 1), ("finish", 0)]


def unreachable() -> None:
    raise ConnectionError("api.wandb.ai: Name or service not known\nand a trace")


@pytest.mark.parametrize("way", ["refused", "hangs", "not installed"])
def test_training_goes_on_without_a_tracker_and_says_so_once(
    way: str,
    tmp_path: Path,
    tokenizer: Path,
    rows: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if way == "not installed":
        said = "wandb: RuntimeError: WandbCallback requires wandb to be installed"
        monkeypatch.setitem(sys.modules, "wandb", None)
        monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", lambda: False)
        monkeypatch.setattr("workers.trainer.train.check_method", lambda *_: None)
    else:
        wandb = request.getfixturevalue("wandb")
        if way == "refused":
            wandb.begin, said = unreachable, "wandb: ConnectionError: api.wandb.ai: Name or service not known"
        else:
            held = trackers.threading.Event()
            request.addfinalizer(held.set)
            monkeypatch.setattr(trackers, "FINISH_S", 0.1)
            wandb.begin, said = held.wait, "wandb: it did not take the rest in time"
    assignment = reporting(rows, tokenizer, "wandb")
    with caplog.at_level(logging.WARNING):
        ended = trained(tmp_path, assignment)
    assert (ended.outcome, ended.steps) == (Outcome.SUCCEEDED, 8)
    told = [record.message for record in caplog.records if "report_to" in record.message]
    assert len(told) == 1 and said in told[0] and "training goes on without it" in told[0]
    lines = [line.tracker for line in AttemptFolder(tmp_path, 1).progress() if line.tracker]
    if way != "hangs":  # that was only seen after the last line
        assert len(lines) == 1 and said in lines[0]
    else:
        assert "wandb" in ended.message


def test_only_rank_0_reports(tmp_path: Path, rows: Path, tokenizer: Path) -> None:
    other = reporting(rows, tokenizer, "tensorboard", "wandb", world_size=2).model_copy(update={"rank": 1})
    before = dict(trackers.os.environ)
    load(other, tmp_path)
    assert dict(trackers.os.environ) == before
    made = trackers.Trackers(other, tmp_path)
    assert made._events is None and not made._servers


def test_what_the_host_or_the_job_has_set_stands(tmp_path: Path, rows: Path, tokenizer: Path) -> None:
    made = environment(
        reporting(rows, tokenizer, "wandb"), tmp_path, {"WANDB_PROJECT": "ours", "WANDB_RUN_ID": "x"}
    )
    assert "WANDB_PROJECT" not in made and made["WANDB_RUN_ID"] == UUID
