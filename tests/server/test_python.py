"""`import tuneyard` against a real server, and without any."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import tuneyard
from orchestrator.cli.main import SECTIONS
from tests.server.servers import Home

SPEC = {
    "name": "first",
    "model": {
        "config": {
            "model_type": "llama",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "vocab_size": 512,
        },
        "tokenizer": "none",
    },
    "training": {"sequence_length": 64, "global_batch": 2, "steps": 10},
}


@pytest.fixture
def served(home: Home, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of jobs, where TUNEYARD_HOME is that of a server that runs."""
    home.serve("--port", "0")
    home.client().close()
    for name in ("TUNEYARD_URL", "TUNEYARD_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNEYARD_HOME", str(home.path))
    folder = home.path / "jobs"
    folder.mkdir()
    (folder / "data.jsonl").write_text('{"text": "x"}\n{"text": "y"}\n')
    (folder / "job.yaml").write_text(
        json.dumps({"name": "first", "model": "org/model", "data": "data.jsonl"})
    )
    return folder


def test_a_job_is_submitted_looked_at_and_cancelled(served: Path) -> None:
    job = tuneyard.submit(served / "job.yaml", {"training.learning_rate": 1e-4}, hold=True)
    assert [one["id"] for one in tuneyard.list(user=job["user"])] == [job["id"]]
    assert tuneyard.show("first")["spec"]["training"]["learning_rate"] == 1e-4
    assert "held by" in tuneyard.why(job["id"])["job"]["reason"]["text"]
    assert tuneyard.logs(job["id"]) == ""
    with pytest.raises(tuneyard.Conflict, match="no result"):
        tuneyard.pull(job["id"], served / "result")
    tuneyard.cancel(job["id"])
    assert tuneyard.wait(job["id"], timeout_s=60)["state"] == "cancelled"
    assert tuneyard.list(["queued"]) == []


def test_what_is_wrong_is_told_as_on_the_command_line(served: Path) -> None:
    with pytest.raises(tuneyard.SpecError) as caught:
        tuneyard.submit({"model": "org/model", "data": str(served / "data.jsonl"), "training": {"stepz": 3}})
    assert [fault.path for fault in caught.value.faults] == ["training.stepz"]
    with pytest.raises(tuneyard.NotFound, match="there is no job 'other'"):
        tuneyard.show("other")
    with pytest.raises(tuneyard.UsageError, match="there is no file"):
        tuneyard.submit("job.yml")


def test_a_plan_needs_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path))
    monkeypatch.delenv("TUNEYARD_URL", raising=False)
    with pytest.raises(tuneyard.Unavailable):
        tuneyard.plan(SPEC)
    found = tuneyard.plan(SPEC, cards=["rtx4090", "h100"], prices={"h100": 2.5}, local=True, timeout_s=900)
    assert [card["short"] for card in found["cards"]] == ["rtx4090", "h100"]
    assert all(card["fits"] and card["projection"]["device_bytes"] > 0 for card in found["cards"])
    with pytest.raises(tuneyard.UsageError, match="rtx4091"):
        tuneyard.plan(SPEC, cards=["rtx4091"], local=True)


def test_its_functions_have_the_verbs_of_the_command_line() -> None:
    verbs = {verb for section in SECTIONS.values() for verb in section}
    functions = [name for name in tuneyard.__all__ if inspect.isfunction(getattr(tuneyard, name))]
    assert set(functions) - verbs == {"fit", "parse_spec", "wait"}
    assert all(getattr(tuneyard, name).__doc__ for name in functions)


def test_run_as_a_module_it_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "tuneyard", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "submit" in done.stdout
