"""`model.chat_template` and `model.eos_token`: in place of the tokenizer's own, for the scan and the trainer alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from jobs.errors import SpecError
from jobs.jobfile.spec import JobSpec, parse_spec
from jobs.state import Outcome
from tests.workers.builders import claimed, make_assignment, write_rows
from workers.checks.enclosed import enclosed
from workers.model.build import build_tokenizer
from workers.profiler.length_scan import scan
from workers.trainer.train import train

TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"
CHATS = [
    {"messages": [{"role": "user", "content": f"Say {i}."}, {"role": "assistant", "content": f"{i}!"}]}
    for i in range(8)
]


def spec_of(tokenizer: Path, **model: Any) -> JobSpec:
    return make_assignment(tokenizer / "none.jsonl", tokenizer, model=model).spec


def test_a_template_of_the_job_is_the_one_that_is_trained_with(tokenizer: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", CHATS)
    assignment = make_assignment(
        data, tokenizer, model={"chat_template": TEMPLATE, "eos_token": "<pad>"}, training={"steps": 1}
    )
    ended = train(assignment, claimed(tmp_path, assignment), tmp_path, tmp_path / "out")
    assert ended.outcome is Outcome.SUCCEEDED and ended.result
    made = AutoTokenizer.from_pretrained(ended.result)
    assert made.chat_template == TEMPLATE and made.eos_token == "<pad>"
    plain = make_assignment(data, tokenizer).spec
    assert scan(assignment.spec, []).longest != scan(plain, []).longest


def test_a_token_that_the_tokenizer_lacks(tokenizer: Path) -> None:
    with pytest.raises(SpecError, match=r"model\.eos_token: is not in the tokenizer's vocabulary"):
        build_tokenizer(spec_of(tokenizer, eos_token="<end>").model, [])
    with pytest.raises(SpecError, match=r"is written with <\|im_start\|> and <\|im_end\|>"):
        build_tokenizer(spec_of(tokenizer, chat_template="chatml").model, [])


def test_chatml_marks_what_the_assistant_says(tokenizer: Path, tmp_path: Path) -> None:
    made = AutoTokenizer.from_pretrained(tokenizer)
    made.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    made.save_pretrained(tmp_path / "tokenizer")
    dressed = build_tokenizer(spec_of(tmp_path / "tokenizer", chat_template="chatml").model, [])
    found = dressed.apply_chat_template(
        CHATS[0]["messages"], return_dict=True, return_assistant_tokens_mask=True
    )
    pairs = zip(found["input_ids"], found["assistant_masks"], strict=True)
    assert dressed.decode([token for token, said in pairs if said]) == "0!<|im_end|>"
    assert dressed.decode(found["input_ids"]).startswith(
        "<|im_start|>user\nSay 0.<|im_end|>\n<|im_start|>assi"
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("plain", "write chatml, the name of a .jinja file"),
        ("template.jinja", "is the name of a file, whose text belongs here"),
        ("{{ x }}" * 10_000, "is too long"),
        (7, "is no chat template"),
    ],
)
def test_what_is_no_template(value: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        parse_spec({"model": {"path": "org/model", "chat_template": value}, "data": "rows.jsonl"})


def test_a_file_beside_the_job_file_travels_with_it(tmp_path: Path) -> None:
    (tmp_path / "chat.jinja").write_text(TEMPLATE)
    text = "model: {path: org/model, chat_template: chat.jinja}\ndata: rows.jsonl\n"
    assert enclosed(text, {}, {}, tmp_path) == {"model.chat_template": TEMPLATE}
    assert enclosed("model: m\n", {}, {"model.chat_template": "./chat.jinja"}, tmp_path) == {
        "model.chat_template": TEMPLATE
    }
    assert enclosed(None, {"model": {"chat_template": "chat.jinja"}}, {}, tmp_path)
    assert enclosed("model: org/jinja.jinja-model\n", {}, {}, tmp_path) == {}
    with pytest.raises(SpecError, match=r"model\.chat_template: is not there .*looked for .*none\.jinja"):
        enclosed(None, {}, {"model.chat_template": "none.jinja"}, tmp_path)
    (tmp_path / "bad.jinja").write_bytes(b"\xff\xfe{")
    with pytest.raises(SpecError, match="can't be read"):
        enclosed(None, {}, {"model.chat_template": "bad.jinja"}, tmp_path)
