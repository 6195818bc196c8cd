"""What the demo holds its jobs to, and that the job files are what it says they are."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from deploy.demo.checks import EXPECTED, findings, memory_table
from deploy.demo.data import VOCABULARY
from deploy.demo.run import CHECKOUT, JOB_FILES, DemoFailed, alone
from jobs.jobfile.loader import parse_yaml
from jobs.jobfile.spec import parse_spec
from jobs.units import MiB
from workers.checkpoints.manifest import write_manifest


@pytest.fixture
def squeezed(tmp_path: Path) -> dict[str, Any]:
    """A `tuneyard show --json` of the job that was to be squeezed and was, with a real result folder."""
    folder = tmp_path / "result"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    write_manifest(folder, {"kind": "model"})
    attempt = {
        "gpus": [{"id": 1, "uuid": "cpu-vm-0", "name": "cpu"}],
        "rung": {"every_n": 1, "label": "every layer, 24×1"},
        "projection": {"device_bytes": 400 * MiB, "upper_bytes": 500 * MiB},
        "measured": {"device_bytes": 420 * MiB, "step_s": 1.25},
        "first_loss": 7.6,
        "last_loss": 6.1,
        "result": str(folder),
    }
    return {
        "name": "squeezed",
        "state": "succeeded",
        "reason": {"code": "succeeded", "text": "done"},
        "attempts_detail": [attempt],
    }


def changed(job: dict[str, Any], **values: Any) -> dict[str, Any]:
    other = copy.deepcopy(job)
    other["attempts_detail"][0] |= values
    return other


def test_a_job_that_ended_as_expected_has_no_findings(squeezed: dict[str, Any]) -> None:
    assert findings(squeezed) == []


def test_another_end_is_a_finding_with_the_reason(squeezed: dict[str, Any]) -> None:
    ended = {**squeezed, "state": "failed", "reason": {"code": "oom", "text": "the card's memory ran out"}}
    assert findings(ended) == ["squeezed is failed, not succeeded: the card's memory ran out"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"rung": {"every_n": 0, "label": "off, 24×1"}},
            "ran with checkpointing off, 24×1, it was to run with",
        ),
        ({"last_loss": 7.59}, "its loss did not fall (7.6 -> 7.59)"),
        ({"last_loss": float("nan")}, "its loss did not fall (7.6 -> nan)"),
        ({"last_loss": None}, "its loss did not fall (7.6 -> None)"),
        ({"measured": None}, "its memory was not measured"),
        ({"result": None}, "no result folder is named"),
    ],
)
def test_each_thing_that_is_amiss_is_named(
    squeezed: dict[str, Any], values: dict[str, Any], said: str
) -> None:
    (finding,) = findings(changed(squeezed, **values))
    assert said in finding


def test_a_damaged_result_is_a_finding(squeezed: dict[str, Any]) -> None:
    Path(squeezed["attempts_detail"][0]["result"], "model.safetensors").write_bytes(b"WEIGHTS")
    (finding,) = findings(squeezed)
    assert "does not match its checksum" in finding


def test_a_result_without_weights_is_a_finding(squeezed: dict[str, Any]) -> None:
    folder = Path(squeezed["attempts_detail"][0]["result"])
    (folder / "model.safetensors").rename(folder / "model.txt")
    write_manifest(folder)
    (finding,) = findings(squeezed)
    assert "holds no safetensors" in finding


def test_the_impossible_job_must_never_have_started(squeezed: dict[str, Any]) -> None:
    impossible = {**squeezed, "name": "impossible", "state": "cancelled"}
    assert findings(impossible) == ["impossible was started, though it fits no card"]
    assert findings({**impossible, "attempts_detail": []}) == []


def test_the_table_shows_projected_beside_measured(squeezed: dict[str, Any]) -> None:
    shown = io.StringIO()
    Console(width=160, file=shown).print(memory_table([squeezed], {"cpu-vm-0": "cpu 700 MiB"}))
    heading, row = shown.getvalue().splitlines()
    assert " ".join(heading.split()) == "JOB CARD CHECKPOINTING PROJECTED AT MOST MEASURED LOSS STEP"
    assert " ".join(row.split()) == (
        "squeezed cpu 700 MiB every layer, 24×1 400 MiB 500 MiB 420 MiB 7.60 -> 6.10 1.25 s"
    )


@pytest.mark.parametrize("path", JOB_FILES)
def test_job_files_are_valid_and_made_for_the_tokenizer(path: str) -> None:
    spec = parse_spec(parse_yaml((CHECKOUT / path).read_text(), path), path)
    assert spec.name in EXPECTED
    assert spec.name == Path(path).stem
    assert spec.model.config is not None
    assert spec.model.config["vocab_size"] == VOCABULARY
    assert (CHECKOUT / path).parent.joinpath(spec.data.path).resolve() == CHECKOUT / ".demo/input/pairs.jsonl"


def test_a_second_demo_leaves_the_first_ones_fleet_alone(tmp_path: Path) -> None:
    with alone(tmp_path / "home") as home, pytest.raises(DemoFailed, match="already runs"), alone(home):
        pass
    with alone(home):
        pass
