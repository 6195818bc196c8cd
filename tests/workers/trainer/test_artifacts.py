"""Result folders: whose they are, who makes way, and what is never deleted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedModel

from jobs.messages.reports import Assignment
from tests.workers.builders import TINY, make_assignment
from workers.checkpoints.manifest import MANIFEST, verify
from workers.input_errors import Refused
from workers.trainer.saving.artifacts import check_free, from_model, publish_result


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    shape = {key: value for key, value in TINY.items() if key != "model_type"}
    return AutoModelForCausalLM.from_config(LlamaConfig(**shape))


def job(number: int, attempt: int, **sections: Any) -> Assignment:
    return make_assignment(
        Path("rows.jsonl"), Path("tokenizer"), job_id=number, attempt_id=attempt, **sections
    )


def publish(
    model: PreTrainedModel, tokenizer: Path, target: Path, assignment: Assignment, fleet: str = "f"
) -> Path:
    fill = from_model(model, AutoTokenizer.from_pretrained(tokenizer))
    return publish_result(fill, target, assignment, {"steps": 1}, fleet)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_same_job_takes_its_own_results_place(
    model: PreTrainedModel, tokenizer: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out" / "here"
    target.mkdir(parents=True)  # an empty folder is nobody's
    for attempt in (1, 2):
        check_free(target, job(1, attempt))
        assert publish(model, tokenizer, target, job(1, attempt)) == target
        assert verify(target)["attempt_id"] == attempt
    assert names(tmp_path / "out") == ["here"]


def test_two_jobs_of_one_output_both_keep_their_result(
    model: PreTrainedModel, tokenizer: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both found the folder free when they began."""
    target = tmp_path / "here"
    first, second = job(1, 1), job(2, 2)
    check_free(target, first)
    check_free(target, second)
    assert publish(model, tokenizer, target, first) == target
    assert publish(model, tokenizer, target, second) == tmp_path / "here-job-2"
    assert verify(target)["job_id"] == 1 and verify(tmp_path / "here-job-2")["job_id"] == 2
    assert f"{target} is left alone: made by job 1" in caplog.text
    assert names(tmp_path) == ["here", "here-job-2"]


def test_a_job_of_the_same_number_with_another_spec_is_another(
    model: PreTrainedModel, tokenizer: Path, tmp_path: Path
) -> None:
    """Two fleets may share an output root, and both count from 1."""
    made = [
        publish(model, tokenizer, tmp_path / "here", job(1, 1, training={"seed": seed})) for seed in range(3)
    ]
    assert [path.name for path in made] == ["here", "here-job-1", "here-job-1-2"]
    assert [verify(path)["spec"]["training"]["seed"] for path in made] == [0, 1, 2]


@pytest.mark.parametrize("earlier", [False, True], ids=["first attempt", "second attempt"])
def test_a_result_around_another_jobs_is_left_alone(
    earlier: bool, model: PreTrainedModel, tokenizer: Path, tmp_path: Path
) -> None:
    around, inside = tmp_path / "team", tmp_path / "team" / "run"
    if earlier:
        publish(model, tokenizer, around, job(1, 1))
    assert publish(model, tokenizer, inside, job(2, 2)) == inside
    again = job(1, 3)
    with pytest.raises(Refused, match=r"team exists already"):
        check_free(around, again)
    assert publish(model, tokenizer, around, again) == tmp_path / "team-job-1"
    assert verify(inside)["job_id"] == 2
    if earlier:
        assert verify(around)["attempt_id"] == 1


@pytest.mark.parametrize("put", ["notes.txt", "more/notes.txt", "link"])
def test_what_people_add_to_a_result_stays(
    put: str, model: PreTrainedModel, tokenizer: Path, tmp_path: Path
) -> None:
    target = publish(model, tokenizer, tmp_path / "here", job(1, 1))
    added = target / put
    added.parent.mkdir(exist_ok=True)
    if put == "link":
        added.symlink_to(tmp_path)
    else:
        added.write_text("best so far")
    with pytest.raises(Refused, match=f"with {put} in it, which this job did not make"):
        check_free(target, job(1, 2))
    assert publish(model, tokenizer, target, job(1, 2)) == tmp_path / "here-job-1"
    assert added.exists() and verify(target)["attempt_id"] == 1


def test_a_file_of_that_name_is_left_alone(model: PreTrainedModel, tokenizer: Path, tmp_path: Path) -> None:
    target = tmp_path / "here"
    target.write_text("mine")
    with pytest.raises(Refused, match="not made by tuneyard"):
        check_free(target, job(1, 1))
    assert publish(model, tokenizer, target, job(1, 1)) == tmp_path / "here-job-1"
    assert target.read_text() == "mine"
    with pytest.raises(Refused, match=r"here is a file, so .* can't be made"):
        check_free(target / "a" / "b", job(1, 1))


@pytest.mark.parametrize("manifest", ["", "{", "[]", '{"files": []}', '{"files": {}}'])
def test_a_folder_with_no_manifest_of_ours_is_not_ours(manifest: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(Refused, match="not made by tuneyard"):
        check_free(tmp_path, job(1, 1))


def test_a_manifest_can_not_name_files_elsewhere(
    model: PreTrainedModel, tokenizer: Path, tmp_path: Path
) -> None:
    """The older result makes way; what its manifest claims outside of it stays."""
    target = publish(model, tokenizer, tmp_path / "here", job(1, 1))
    (tmp_path / "precious").write_text("x")
    manifest = json.loads((target / MANIFEST).read_text())
    manifest["files"]["../precious"] = {"size": 1, "sha256": ""}
    (target / MANIFEST).write_text(json.dumps(manifest))
    assert publish(model, tokenizer, target, job(1, 2)) == target
    assert names(tmp_path) == ["here", "precious"]
