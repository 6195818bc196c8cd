"""Real TRL runs, small: every method, every form of data, and what they leave behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from jobs.memory.project import Rung
from jobs.messages.reports import Progress
from jobs.state import Outcome
from tests.workers.builders import (
    answer,
    claimed,
    make_assignment,
    make_tokenizer,
    prompt_rows,
    question,
    write_rows,
)
from workers.attempt_folder import AttemptFolder
from workers.checkpoints.manifest import verify
from workers.trainer.train import run_attempt, train


def chat(i: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": question(i)}, {"role": "assistant", "content": answer(i)}]


FORMS: dict[str, list[dict[str, Any]]] = {
    "messages": [{"messages": chat(i), "extra": i} for i in range(16)],
    "text": [{"text": question(i) + answer(i), "id": i} for i in range(16)],
    "chat prompts": [{"prompt": chat(i)[:1], "completion": chat(i)[1:]} for i in range(16)],
}


def test_a_full_fine_tune_learns_and_leaves_a_model(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    assignment = make_assignment(rows, tokenizer, name="full", training={"steps": 12})
    folder = claimed(tmp_path / "home", assignment)
    ended = run_attempt(assignment, folder, tmp_path / "home", tmp_path / "out")

    assert ended.outcome is Outcome.SUCCEEDED, ended.message
    assert folder.ended() == ended
    assert ended.steps == 12
    assert ended.first_loss and ended.last_loss and ended.last_loss < ended.first_loss - 0.5
    assert ended.step_s and ended.tokens_per_s
    assert ended.device_bytes is not None  # none at all where earlier tests left enough
    result = tmp_path / "out" / "job-1-full"
    assert ended.result == str(result)
    manifest = verify(result)
    assert manifest["kind"] == "model" and manifest["job_id"] == 1 and manifest["rung"] == "off, 2×2"
    assert manifest["final_loss"] == ended.last_loss
    assert AutoModelForCausalLM.from_pretrained(result).num_parameters() > 0
    assert AutoTokenizer.from_pretrained(result).eos_token == "<eos>"
    assert not [path for path in result.rglob("*") if path.suffix in (".bin", ".pt", ".pth")]


def test_progress_has_the_first_and_the_last_step(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    assignment = make_assignment(rows, tokenizer)
    folder = claimed(tmp_path / "home", assignment)
    run_attempt(assignment, folder, tmp_path / "home", tmp_path / "out")
    lines = folder.progress()
    assert [lines[0].step, lines[-1].step] == [1, 4]
    assert all(line.total_steps == 4 and line.loss and line.step_s and line.tokens for line in lines)
    assert lines[0].learning_rate == pytest.approx(1e-2)
    started = folder.started()
    assert started and started.baseline_bytes > 0


def test_adapters_learn_in_every_checkpointed_layer(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    """Without gradients at a checkpointed layer's input, its adapters would stay at zero."""
    assignment = make_assignment(
        rows,
        tokenizer,
        rung=Rung(1, 2, 2),
        method={"kind": "lora", "rank": 4, "dropout": 0.05},
        model={"dtype": "bfloat16"},
    )
    ended = train(assignment, claimed(tmp_path, assignment), tmp_path, tmp_path / "out")
    assert ended.outcome is Outcome.SUCCEEDED
    result = tmp_path / "out" / "job-1"
    assert verify(result)["kind"] == "adapter"
    learned = load_file(result / "adapter_model.safetensors")
    ups = {name: weight for name, weight in learned.items() if "lora_B" in name}
    assert len(ups) == 4 * 7  # layers x linear modules
    assert all(weight.abs().max() > 0 for weight in ups.values())


def test_adapters_go_on_a_model_from_a_folder(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    base = make_assignment(rows, tokenizer, output="base", training={"steps": 1})
    train(base, claimed(tmp_path, base), tmp_path, tmp_path)
    adapted = make_assignment(
        rows,
        tokenizer,
        job_id=2,
        attempt_id=2,
        output="adapter",
        method={"kind": "lora", "rank": 2, "targets": ["q_proj"]},
        model={"config": None, "path": str(tmp_path / "base"), "tokenizer": None},
    )
    assert train(adapted, claimed(tmp_path, adapted), tmp_path, tmp_path).outcome is Outcome.SUCCEEDED
    assert verify(tmp_path / "adapter")["base_model"] == str(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert PeftModel.from_pretrained(model, tmp_path / "adapter").get_nb_trainable_parameters()[1] > 0


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_data(form: str, tmp_path: Path, tokenizer: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", FORMS[form])
    assignment = make_assignment(data, tokenizer, training={"steps": 2})
    ended = train(assignment, claimed(tmp_path, assignment), tmp_path, tmp_path / "out")
    assert ended.outcome is Outcome.SUCCEEDED and ended.first_loss


def test_packing_fills_the_sequences(tmp_path: Path, tokenizer: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", FORMS["text"])
    tokens = {}
    for packing in (False, True):
        number = int(packing) + 1
        training = {"steps": 2, "packing": packing, "sequence_length": 64}
        assignment = make_assignment(data, tokenizer, job_id=number, attempt_id=number, training=training)
        folder = claimed(tmp_path, assignment)
        ended = run_attempt(assignment, folder, tmp_path, tmp_path / "out")
        assert ended.outcome is Outcome.SUCCEEDED, ended.message
        tokens[packing] = folder.progress()[-1].tokens
    assert tokens[True] > tokens[False]


def test_the_same_seed_gives_the_same_losses(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    losses = []
    for number, seed in ((1, 7), (2, 7), (3, 8)):
        assignment = make_assignment(
            rows, tokenizer, job_id=number, attempt_id=number, training={"seed": seed, "steps": 2}
        )
        losses.append(train(assignment, claimed(tmp_path, assignment), tmp_path, tmp_path / "out").last_loss)
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"model": {"config": None, "path": "org/model", "engine": "unsloth"}}, "this host has no unsloth"),
        ({"model": {"config": {"model_type": "lama"}}}, "lama"),
        ({"model": {"config": {"model_type": "llama", "vocab_size": 100}}}, "room for 100"),
        (
            {"model": {"config": None, "path": "org/own-code", "trust_remote_code": True}},
            "no operator allowed",
        ),
        ({"rung": Rung(1, 2, 2, offload=True)}, "offload"),
    ],
)
def test_what_cant_be_trained_is_said(
    sections: dict[str, Any], says: str, tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    assignment = make_assignment(rows, tokenizer, **sections)
    ended = run_attempt(assignment, AttemptFolder(tmp_path, 1), tmp_path, tmp_path / "out")
    hosts = says.startswith("this host")
    assert ended.outcome is (Outcome.NOT_STARTED if hosts else Outcome.FAILED)
    assert says in ended.message and ended.bad_input is not hosts
    assert not (tmp_path / "out").exists()


def test_conversations_need_a_chat_template(tmp_path: Path) -> None:
    plain = make_tokenizer(tmp_path / "tokenizer", template=None)
    data = write_rows(tmp_path / "rows.jsonl", FORMS["messages"])
    ended = run_attempt(make_assignment(data, plain), AttemptFolder(tmp_path, 1), tmp_path, tmp_path / "out")
    assert ended.outcome is Outcome.FAILED and "chat_template" in ended.message


def test_bad_data_names_the_line(tmp_path: Path, tokenizer: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", prompt_rows(3))
    data.write_text(data.read_text() + "{broken\n")
    ended = run_attempt(
        make_assignment(data, tokenizer), AttemptFolder(tmp_path, 1), tmp_path, tmp_path / "out"
    )
    assert ended.outcome is Outcome.FAILED and "line 4" in ended.message and ended.bad_input
    assert "\n" not in ended.message


def test_data_that_is_not_there_may_be_so_on_this_host_alone(tmp_path: Path, tokenizer: Path) -> None:
    assignment = make_assignment(tmp_path / "gone.jsonl", tokenizer)
    ended = run_attempt(assignment, AttemptFolder(tmp_path, 1), tmp_path, tmp_path / "out")
    assert ended.outcome is Outcome.FAILED and "does not exist" in ended.message and not ended.bad_input


class TakenMeanwhile(AttemptFolder):
    """Somebody makes a folder while this attempt trains."""

    def append_progress(self, progress: Progress) -> None:
        super().append_progress(progress)
        taken = self.path.parents[1] / "out" / "here"
        taken.mkdir(parents=True, exist_ok=True)
        (taken / "notes.txt").write_text("mine")


def test_a_folder_taken_meanwhile_is_left_alone(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    assignment = make_assignment(rows, tokenizer, job_id=5, output="here", training={"steps": 1})
    ended = run_attempt(assignment, TakenMeanwhile(tmp_path, 1), tmp_path, tmp_path / "out")
    here, beside = tmp_path / "out" / "here", tmp_path / "out" / "here-job-5"
    assert ended.outcome is Outcome.SUCCEEDED and ended.result == str(beside)
    assert f"the result is in {beside}, because {here} was taken" in ended.message
    assert verify(beside)["job_id"] == 5 and [path.name for path in here.iterdir()] == ["notes.txt"]


def test_a_result_folder_of_another_is_left_alone(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    def attempt(number: int, job_id: int) -> Any:
        made = make_assignment(
            rows, tokenizer, job_id=job_id, attempt_id=number, output="here", training={"steps": 1}
        )
        return run_attempt(made, AttemptFolder(tmp_path, number), tmp_path, tmp_path / "out")

    assert attempt(1, job_id=1).outcome is Outcome.SUCCEEDED
    again = attempt(2, job_id=1)  # its outcome got lost, say
    assert again.outcome is Outcome.SUCCEEDED, again.message
    assert verify(tmp_path / "out" / "here")["attempt_id"] == 2
    other = attempt(3, job_id=9)
    assert other.outcome is Outcome.FAILED and "made by job 1" in other.message
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["here"]
