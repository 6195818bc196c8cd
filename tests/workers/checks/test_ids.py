"""A tokenizer with more tokens than the model has rows: it trains unless the data uses them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from jobs.errors import InputError
from jobs.messages.reports import Assignment
from jobs.state import Outcome
from tests.workers.builders import TINY, VOCABULARY, claimed, make_assignment, prompt_rows, write_rows
from workers.profiler.length_scan import scan
from workers.trainer.train import run_attempt

EXTRA = "<image_soft_token>"
PLAIN = prompt_rows(8)
USED = [*PLAIN, {"prompt": "What is this? " + EXTRA, "completion": " A token."}]


@pytest.fixture(scope="module")
def larger(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One token more than the model has rows, as gemma-3-1b has."""
    made = AutoTokenizer.from_pretrained(tokenizer)
    made.add_tokens([EXTRA], special_tokens=True)
    assert made.convert_tokens_to_ids(EXTRA) >= VOCABULARY
    folder = tmp_path_factory.mktemp("larger")
    made.save_pretrained(folder)
    return folder


def both(assignment: Assignment, home: Path) -> str:
    """What scan and trainer say, which is the same; empty where it trains."""
    try:
        scan(assignment.spec, [])
        said = ""
    except InputError as error:
        said = error.line
    ended = run_attempt(assignment, claimed(home, assignment), home, home / "out")
    if not said:
        assert ended.outcome is Outcome.SUCCEEDED, ended.message
        return ""
    assert (ended.outcome, ended.bad_input, ended.message) == (Outcome.FAILED, True, said)
    return said


def job(rows: list[dict[str, Any]], tokenizer: Path, folder: Path, **sections: Any) -> Assignment:
    data = write_rows(folder / "rows.jsonl", rows)
    return make_assignment(data, tokenizer, training={"steps": 1, "sequence_length": 64}, **sections)


def test_tokens_that_no_row_uses_do_no_harm(larger: Path, tmp_path: Path) -> None:
    assert both(job(PLAIN, larger, tmp_path), tmp_path) == ""


def test_a_row_that_uses_one_is_named_with_the_token(larger: Path, tmp_path: Path) -> None:
    said = both(job(USED, larger, tmp_path), tmp_path)
    assert "line 9" in said and EXTRA in said and "room for 320 (ids 0 to 319)" in said
    assert "set model.config.vocab_size to 321" in said


def test_what_is_cut_off_is_not_used(larger: Path, tmp_path: Path) -> None:
    rows = [*PLAIN, {"text": "a" * 200 + EXTRA}]
    data = write_rows(tmp_path / "rows.jsonl", [{"text": str(row)} for row in PLAIN] + rows[-1:])
    assert both(make_assignment(data, larger, training={"steps": 1, "sequence_length": 32}), tmp_path) == ""


@pytest.mark.parametrize("own", [True, False])
def test_the_remedy_can_be_followed_for_a_model_in_a_folder(own: bool, larger: Path, tmp_path: Path) -> None:
    """`config` beside `path` is refused, so it is never advised."""
    folder = tmp_path / "model"
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**TINY)).save_pretrained(folder)
    shutil.copytree(larger, folder, dirs_exist_ok=True)
    model = {"config": None, "path": str(folder), "tokenizer": None if own else str(larger)}
    said = both(job(USED, larger, tmp_path, model=model), tmp_path)
    assert "model.config" not in said and "resize_token_embeddings(321)" in said
    assert ("take that token out of the data" in said) is own
    assert ("leave model.tokenizer out" in said) is not own


def test_padding_is_looked_up_too(tokenizer: Path, tmp_path: Path) -> None:
    made = AutoTokenizer.from_pretrained(tokenizer)
    made.add_special_tokens({"pad_token": "[PAD]"})
    made.save_pretrained(tmp_path / "padded")
    said = both(job(PLAIN, tmp_path / "padded", tmp_path), tmp_path)
    assert "its padding token [PAD] has id 320" in said and "such as <eos>" in said


def test_a_model_of_exactly_as_many_rows_takes_them(larger: Path, tmp_path: Path) -> None:
    config = {"model": {"config": {**TINY, "vocab_size": VOCABULARY + 1}}}
    assert both(job(USED, larger, tmp_path, **config), tmp_path) == ""
