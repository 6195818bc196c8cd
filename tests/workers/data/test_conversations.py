"""Conversations that won't do: each is refused with file, row and remedy, by the scan and by the trainer alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from jobs.errors import SpecError
from jobs.jobfile.spec import JobSpec
from tests.workers.builders import CHAT_TEMPLATE, make_assignment, write_rows
from workers.data.checks import check_data
from workers.data.datasets import build_dataset
from workers.model.build import build_tokenizer
from workers.profiler.length_scan import scan

FINE = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "good day"}]}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
ALTERNATE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}" + CHAT_TEMPLATE.partition("%}")[2]
)
WITH_PARTS = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}{{ eos_token }}{% endfor %}"
)
WITH_TOOLS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% if think is defined %}[{{ think }}]{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}{{ eos_token }}"
    "{% endfor %}"
)  # fmt: skip
FUSSY = (
    "{% for m in messages %}{{ m.role }}{{ m.content.strip() + m.name.strip() }}{{ eos_token }}{% endfor %}"
)


def turn(role: Any = "assistant", content: Any = "x", **more: Any) -> dict[str, Any]:
    return {"messages": [FINE["messages"][0], {"role": role, "content": content, **more}]}


def spec_of(
    rows: list[dict[str, Any]], folder: Path, tokenizer: Path, template: str | None = CHAT_TEMPLATE
) -> JobSpec:
    made = AutoTokenizer.from_pretrained(str(tokenizer))
    made.chat_template = template
    made.save_pretrained(folder / "tokenizer")
    data = write_rows(folder / "rows.jsonl", rows)
    return make_assignment(data, folder / "tokenizer", training={"sequence_length": 256}).spec


def texts(spec: JobSpec, folder: Path) -> list[str]:
    tokenizer = build_tokenizer(spec.model, [])
    return [str(tokenizer.decode(row["input_ids"])) for row in build_dataset(spec, tokenizer, folder)]


# At submit, where nobody has loaded the chat template.
STRUCTURE: dict[str, tuple[dict[str, Any], str]] = {
    "null": (turn(content=None), 'message 2 (assistant) has content null and no tool_calls; give it text, "" for'),
    "no calls": (turn(content=None, tool_calls=[]), "content null and no tool_calls"),
    "absent": ({"messages": [{"role": "user"}]}, "message 1 (user) has no content and no tool_calls"),
    "old call": (turn(content=None, function_call={"name": "f"}), "a function_call; write it as tool_calls"),
    "number": (turn(content=5), "has content that is a number; write it as text, in quotes"),
    "object": (turn(content={"a": 1}), "has content that is an object"),
    "image": (turn(content=[{"type": "image_url", "image_url": {}}]), "has a part of type image_url in its content"),
    "empty parts": (turn(content=[]), "has an empty list as its content"),
    "bare parts": (turn(content=["x"]), "has a part of type text in its content"),
    "no role": (turn(role=None), "message 2 is a message without role and content"),
    "sharegpt": (
        {"messages": [{"from": "human", "value": "hi"}]},
        "rename from to role (human becomes user, gpt becomes assistant) and value to content",
    ),
    "no object": ({"messages": ["hi"]}, "message 1 is not an object but text"),
    "calls": (turn(tool_calls="f"), "has tool_calls that are not a list of objects"),
    "mixed": ({"prompt": "a", "completion": "b"}, "messages is missing"),
    "text": ({"messages": "hi"}, "messages is not a list of messages but text"),
    "kwargs": ({**FINE, "chat_template_kwargs": "a"}, "chat_template_kwargs is not an object but text"),
    "kwargs twice": ({**FINE, "chat_template_kwargs": {"tools": []}}, "has tools, which is set already"),
    "tools": ({**FINE, "tools": {"a": 1}}, "tools is not a list of objects but an object"),
    "tools text": ({**FINE, "tools": "f()"}, "tools is text that is no JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", STRUCTURE)
def test_a_turn_that_lacks_something_is_refused_at_submit(name: str, tmp_path: Path) -> None:
    row, says = STRUCTURE[name]
    (fault,) = check_data(str(write_rows(tmp_path / "rows.jsonl", [FINE, FINE, row, FINE])))
    assert fault.problem.startswith("line 3: ") and says in f"{fault.problem}; {fault.fix}"


def test_text_and_conversations_do_not_mix(tmp_path: Path) -> None:
    talk = {"prompt": FINE["messages"][:1], "completion": FINE["messages"][1:]}
    text = {"prompt": "a", "completion": "b"}
    for rows, says in (
        ([text, talk], "line 2: prompt is a list, where the first row has text"),
        ([talk, text], "line 2: prompt is text, where the first row has a list of messages"),
        ([{**talk, "completion": "b"}], "line 1: completion is text, where"),
        ([{**text, "completion": talk["completion"]}], "line 1: completion is a list, where"),
    ):
        (fault,) = check_data(str(write_rows(tmp_path / "rows.jsonl", rows)))
        assert says in fault.problem and fault.fix == "give all rows one shape"


RENDERED: dict[str, tuple[dict[str, Any], str | None, str]] = {
    "order": (
        {"messages": [*FINE["messages"], *FINE["messages"][1:]]}, ALTERNATE,
        "line 3: the chat template refuses it: Roles must alternate"),
    "undefined": (turn(), FUSSY, "line 1: the chat template fails on it: 'dict object' has no attribute 'name'"),
    "type": (turn(name="n"), FUSSY.replace("m.name.strip()", "5"), "line 1: the chat template fails on it: TypeError"),
    "role": (turn(role="gpt"), CHAT_TEMPLATE, "line 3: message 2 has role gpt, which the chat template does not know"),
    "case": (turn(role="Assistant"), CHAT_TEMPLATE, "has role Assistant, which the chat template does not know"),
    "calls": (
        turn(content=None, tool_calls=[{"function": {"name": "f", "arguments": {}}}]), CHAT_TEMPLATE,
        "line 3: message 2 has tool_calls, which the chat template leaves out"),
    "none": (turn(), None, "the rows are conversations, but the tokenizer has no chat_template"),
}  # fmt: skip


@pytest.mark.parametrize("name", RENDERED)
def test_what_the_chat_template_will_not_take_is_refused_by_scan_and_trainer(
    name: str, tokenizer: Path, tmp_path: Path
) -> None:
    row, template, says = RENDERED[name]
    spec = spec_of([FINE, FINE, row, FINE], tmp_path, tokenizer, template)
    assert check_data(spec.data.path) == []
    for refuses in (lambda: scan(spec, []), lambda: texts(spec, tmp_path / "data")):
        with pytest.raises(SpecError) as raised:
            refuses()
        (fault,) = raised.value.faults
        assert says in fault.problem and fault.given == spec.data.path and fault.fix


def test_parts_of_text_are_text(tokenizer: Path, tmp_path: Path) -> None:
    """Joined for a template of text, handed on to one that takes them."""
    parts = [{"type": "text", "text": "good "}, {"type": "text", "text": "day"}]
    rows = [turn(content=parts), turn(content="good day")]
    for template in (CHAT_TEMPLATE, WITH_PARTS):
        one, other = texts(spec_of(rows, tmp_path, tokenizer, template), tmp_path / f"data-{len(template)}")
        assert one == other and "good day" in one


def test_a_row_may_go_without_what_other_rows_bring(tokenizer: Path, tmp_path: Path) -> None:
    rows = [
        FINE,
        {**FINE, "tools": TOOLS, "chat_template_kwargs": {"think": False}},
        {**FINE, "tools": None, "chat_template_kwargs": None},
        {**FINE, "tools": '[{"a": 1}]', "chat_template_kwargs": {}},
    ]
    spec = spec_of(rows, tmp_path, tokenizer, WITH_TOOLS)
    said = texts(spec, tmp_path / "data")
    plain = "<|user|>hi<eos><|assistant|>good day<eos>"
    assert said[0] == said[2] == plain and said[3] == '[{"a": 1}]' + plain
    assert said[1].startswith('[{"type": "function"') and said[1].endswith(f"[False]{plain}")
    assert scan(spec, []).tokens == sum(len(row) for row in tokens(spec, tmp_path / "again"))
    (warning,) = [w for w in scan(spec_of(rows, tmp_path, tokenizer), []).warnings if "tools" in w]
    assert warning == "2 of 4 rows have tools (first: line 2), which the chat template leaves out."


def tokens(spec: JobSpec, folder: Path) -> list[list[int]]:
    return list(build_dataset(spec, build_tokenizer(spec.model, []), folder)["input_ids"])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"conversations": [], "id": 1}, "rename conversations to messages"),
        ({"instruction": "a", "input": "", "output": "b"}, "rename instruction to prompt and output to completion"),
        ({"question": "a", "answer": "b"}, "rename question to prompt and answer to completion"),
        ({"prompt": "a", "response": "b"}, "rename response to completion"),
        ({"content": "a", "url": "b"}, "rename content to text"),
    ],
)  # fmt: skip
def test_columns_of_other_programs_are_told_what_to_rename(row: Any, says: str, tmp_path: Path) -> None:
    (fault,) = check_data(str(write_rows(tmp_path / "rows.jsonl", [row])))
    assert says in fault.fix
