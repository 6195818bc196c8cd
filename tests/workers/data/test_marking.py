"""The assistant's turns by prefixes against a twin of the template that marks them with {% generation %}."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from jobs.errors import SpecError
from tests.workers.builders import CHAT_TEMPLATE, answer, question, write_rows
from tests.workers.data.test_tokens import a_spec, ours, said, with_template
from workers.data.rendering import Renderer, Unmarkable
from workers.input_errors import Bad
from workers.profiler.length_scan import scan

# A system turn goes into the first turn that follows, or into the last of the user's; a turn begins with white space.
HEAD = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set sys = messages[0].content %}"
    "{% set ms = messages[1:] %}{% else %}{% set sys = '' %}{% set ms = messages %}{% endif %}{% for m in ms %}"
)
TWINS = {
    "chatml": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}"
        "{{ m.content }}<eos>{% endgeneration %}{% else %}{{ m.content }}<eos>{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant{{ '\n' }}{% endif %}"
    ),
    "default system": (
        "{% if messages[0].role != 'system' %}<|system|>Be brief.<eos>{% endif %}"
        "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<eos>"
        "{% endgeneration %}{% else %}{{ m.content }}<eos>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
    "first": HEAD + (
        "<|{{ m.role }}|>{{ sys if loop.first }}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<eos>"
        "{% endgeneration %}{% else %}{{ m.content }}<eos>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{{ sys if ms | length == 0 }}{% endif %}"
    ),
    "last user": HEAD + (
        "{% if m.role != 'assistant' %}[INST] {% if sys and (loop.last or loop.index == loop.length - 1) %}{{ sys }} "
        "{% endif %}{{ m.content }}[/INST]{% else %}{% generation %} {{ m.content }}<eos>{% endgeneration %}{% endif %}"
        "{% endfor %}"
    ),
    "merged": HEAD + (
        "{% if m.role != 'assistant' %}[INST] {{ m.content }}[/INST]{% else %}{{ sys if loop.first }}"
        "{% generation %} {{ m.content }}<eos>{% endgeneration %}{% endif %}{% endfor %}"
    ),
}  # fmt: skip
PLAIN = {
    name: twin.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    for name, twin in TWINS.items()
}
ALWAYS = ("chatml", "default system")
words = st.text(st.sampled_from("ab <|>\n"), max_size=6)
turns = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "assistant", "assistant", "tool"]),
    words,
)


def talk(*roles: str) -> dict[str, Any]:
    """u: user, a: assistant, s: system, t: tool."""
    names = {"u": "user", "a": "assistant", "s": "system", "t": "tool"}
    made = {"user": question, "assistant": answer}
    return {
        "messages": [
            {"role": names[one], "content": made[names[one]](i) if names[one] in made else f"Count {i}."}
            for i, one in enumerate(roles)
        ]
    }


@pytest.fixture(scope="module")
def base(tokenizer: Path) -> PreTrainedTokenizerBase:
    made = AutoTokenizer.from_pretrained(str(tokenizer), bos_token="<pad>")
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    return made


def renderer(base: PreTrainedTokenizerBase, template: str, loss_on: str | None = None) -> Renderer:
    base.chat_template = template
    return Renderer(base, ("messages",), loss_on)


def learned(one: Renderer, row: dict[str, Any]) -> list[str]:
    made = one.render(row)
    assert made.learned is not None
    return [made.text[start:end] for start, end in made.learned]


@pytest.mark.parametrize("name", TWINS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(system=st.none() | words, body=st.lists(turns, min_size=1, max_size=5))
def test_what_is_marked_is_what_the_twin_marks(
    name: str, base: PreTrainedTokenizerBase, system: str | None, body: list[dict[str, str]]
) -> None:
    row = {"messages": [*([{"role": "system", "content": system}] if system is not None else []), *body]}
    plain = renderer(base, PLAIN[name])
    marked = renderer(base, TWINS[name])
    base.chat_template = PLAIN[name]
    assert (plain.marking.by, marked.marking.by) == ("prefixes", "markers")
    try:
        found = plain.render(row)
    except (Bad, Unmarkable):
        assert name not in ALWAYS
        return
    base.chat_template = TWINS[name]
    assert found == marked.render(row)


ALONE = {
    "greeting": talk(*"aua"),
    "only the assistant": talk("a"),
    "system": talk(*"sa"),
    "system, greeting": talk(*"saua"),
    "two": talk(*"aa"),
    "tool": talk(*"uata"),
}


@pytest.mark.parametrize("row", ALONE.values(), ids=ALONE.keys())
@pytest.mark.parametrize("name", ALWAYS)
def test_a_turn_before_the_users_first_is_marked(
    name: str, row: dict[str, Any], base: PreTrainedTokenizerBase
) -> None:
    found = learned(renderer(base, PLAIN[name], "assistant"), row)
    assert found == [m["content"] + "<eos>" for m in row["messages"] if m["role"] == "assistant"]


def test_a_greeting_is_trained_on(tokenizer: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [talk(*"aua"), talk("a"), talk(*"sa")])
    spec = a_spec(data, with_template(tokenizer, tmp_path / "tokenizer", CHAT_TEMPLATE), sequence_length=256)
    (warnings, rows) = scan(spec, []).warnings, ours(spec, tmp_path / "data")
    assert warnings == ()
    assert [said(spec, *row) for row in rows] == [
        f"{answer(0)}<eos>{answer(2)}<eos>",
        f"{answer(0)}<eos>",
        f"{answer(1)}<eos>",
    ]


def test_turns_that_a_template_cannot_mark_are_learned_from_with_all_others(
    tokenizer: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever the first of them is; asked for the assistant's, it is a refusal."""
    folder = with_template(tokenizer, tmp_path / "tokenizer", PLAIN["last user"], bos_token="<pad>")
    plain, odd = [talk(*"uaua")] * 300, talk(*"suaua")
    for index, rows in enumerate(([*plain, odd], [odd, *plain])):
        data = write_rows(tmp_path / "rows.jsonl", rows)
        spec = a_spec(data, folder, sequence_length=256)
        all_of_it = ours(a_spec(data, folder, loss_on="all", sequence_length=256), tmp_path / f"all-{index}")
        caplog.clear()
        assert ours(spec, tmp_path / f"data-{index}") == all_of_it
        (warning,) = scan(spec, []).warnings
        line = 301 - 300 * index
        assert warning.startswith(
            "The loss covers every turn, the user's too: the chat template has no {% generation %} markers, and in "
            f"line {line} the assistant's words in message 3 can't be told apart: the chat template renders what is up "
            "to there differently when turns follow. Write data.loss_on: all if that is meant"
        )
        assert warning in [record.getMessage() for record in caplog.records]
        asked = a_spec(data, folder, loss_on="assistant", sequence_length=256)
        for asks in (lambda: scan(asked, []), lambda: ours(asked, tmp_path / "no")):  # noqa: B023
            with pytest.raises(SpecError, match=rf"line {line}: the assistant's .* set data\.loss_on: all"):
                asks()
    data = write_rows(tmp_path / "rows.jsonl", plain)
    spec = a_spec(data, folder, sequence_length=256)
    assert said(spec, *ours(spec, tmp_path / "plain")[0]) == f" {answer(1)}<eos> {answer(3)}<eos>"
    assert scan(spec, []).warnings == ()


def test_a_row_whose_words_confuse_the_template_is_refused_with_the_remedy(
    tokenizer: Path, tmp_path: Path
) -> None:
    """Its kind can be marked, so the other rows are not given up for it."""
    template = CHAT_TEMPLATE.replace(
        "{{ m.content }}", "{{ m.content if loop.last or 'secret' not in m.content else '' }}"
    )
    folder = with_template(tokenizer, tmp_path / "tokenizer", template)
    row = talk(*"uaua")
    row["messages"][1] = {"role": "assistant", "content": "secret"}
    spec = a_spec(write_rows(tmp_path / "rows.jsonl", [talk(*"uaua"), row]), folder, sequence_length=256)
    for asks in (lambda: scan(spec, []), lambda: ours(spec, tmp_path / "no")):
        with pytest.raises(SpecError, match=r"line 2: .* message 2 .* set data\.loss_on: all, or put"):
            asks()


def test_turns_that_the_template_leaves_out_are_told(tokenizer: Path, tmp_path: Path) -> None:
    silent = CHAT_TEMPLATE.replace("{{ m.content }}", "{{ m.content if m.role != 'system' }}")
    rows = [
        talk(*"ua"),
        talk(*"sua"),
        {"prompt": talk(*"su")["messages"], "completion": talk("a")["messages"]},
    ]
    for some, where in ((rows[:2], "line 2"), (rows[2:], "line 1")):
        data = write_rows(tmp_path / "rows.jsonl", some)
        folder = with_template(tokenizer, tmp_path / "tokenizer", silent)
        (warning,) = scan(a_spec(data, folder), []).warnings
        assert warning == (
            f"1 of {len(some)} rows have a turn that the chat template leaves out or changes (first: {where}, "
            "message 1 (system))."
        )
        assert scan(a_spec(data, with_template(tokenizer, folder, CHAT_TEMPLATE)), []).warnings == ()
