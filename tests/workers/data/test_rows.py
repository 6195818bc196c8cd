"""The one reader: what the trainer is given is what the file says, in every format; what can't be is refused."""

from __future__ import annotations

import datetime
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from datasets import Dataset, Features, Json, List
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from transformers import AutoTokenizer

from jobs.errors import SpecError
from tests.workers.builders import make_assignment
from tests.workers.data.files import CHAT_FORMATS, TEXT_FORMATS, write
from workers.data import json_rows
from workers.data.arrow_rows import table_rows
from workers.data.checks import check_data
from workers.data.rows import Rows, open_rows
from workers.profiler.length_scan import scan
from workers.trainer.train import build_trainer

# What loaders take for something else than text.
WORDS = (
    *("NA", "null", "None", "nan", "", "007", "7", "1.0", "1e5", "-0", "True", "false", "2021-05-03", "12:30"),
    *("a,b", 'q"q', "two\nlines", "\r\n", "a\rb", " x "),
    *( "\u2028\u0085", "\x00", "\ufeff", "é😀", "[1]", "{}", "\\u0041\\"),
)  # fmt: skip
texts = st.one_of(st.sampled_from(WORDS), st.text(max_size=40))
pairs = st.lists(st.fixed_dictionaries({"prompt": texts, "completion": texts}), min_size=1, max_size=12)
ALL_WORDS = [{"prompt": word, "completion": word} for word in WORDS]
some_folder = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def read(path: Path | str) -> list[dict[str, Any]]:
    return [row for _, row in open_rows(str(path))]


def problem(path: Path | str) -> str:
    with pytest.raises(SpecError) as raised:
        read(path)
    (fault,) = raised.value.faults
    assert fault.path == "data.path" and fault.given == str(path)
    return f"{fault.problem}; {fault.fix}"


def a_file(folder: Path, content: str | bytes, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("name", TEXT_FORMATS)
@some_folder
@given(rows=pairs)
@example(rows=ALL_WORDS)
def test_rows_are_what_the_file_says(name: str, tmp_path: Path, rows: list[dict[str, str]]) -> None:
    assert read(write(rows, name, tmp_path)) == rows


@pytest.mark.parametrize("name", TEXT_FORMATS)
@settings(some_folder, max_examples=2)
@given(rows=pairs)
@example(rows=ALL_WORDS)
def test_a_trainer_is_given_what_the_file_says(
    name: str, tokenizer: Path, tmp_path: Path, rows: list[dict[str, str]]
) -> None:
    """Its tokens are decoded again: byte-level ones lose nothing. The scan counts the same."""
    training = {"sequence_length": 512}
    assignment = make_assignment(write(rows, name, tmp_path), tokenizer, training=training)
    trainer = build_trainer(assignment, tmp_path / "out")
    decode = AutoTokenizer.from_pretrained(str(tokenizer)).decode
    whole = [decode(ids) for ids in trainer.train_dataset["input_ids"]]
    # Of a row without a character there is nothing to predict.
    said = [row["prompt"] + row["completion"] for row in rows]
    assert whole == [f"{text}<eos>" for text in said if text]
    found, lengths = scan(assignment.spec, []), Counter(map(len, trainer.train_dataset["input_ids"]))
    assert (found.count, found.tokens) == (len(whole), sum(n * k for n, k in lengths.items()))


TURNS = st.lists(texts, min_size=1, max_size=4)


@pytest.mark.parametrize("name", CHAT_FORMATS)
@some_folder
@given(said=st.lists(TURNS, min_size=1, max_size=6))
def test_conversations_are_what_the_file_says(name: str, tmp_path: Path, said: list[list[str]]) -> None:
    roles = ("user", "assistant")
    rows = [
        {"messages": [{"role": roles[i % 2], "content": t} for i, t in enumerate(turns)]} for turns in said
    ]
    assert read(write(rows, name, tmp_path)) == rows


def call(**arguments: Any) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "f", "arguments": arguments}}],
    }


CALLS = [
    {"messages": [{"role": "user", "content": "a"}, call(x=1, y=None)]},
    {"messages": [{"role": "user", "content": "b"}, call(z={"deep": [1.5, "2"]}), {"role": "tool", "content": ""}]},
]  # fmt: skip


@pytest.mark.parametrize("name", ["jsonl", "json", "saved"])
def test_json_gets_no_keys_that_it_has_not_and_keeps_its_nulls(name: str, tmp_path: Path) -> None:
    assert read(write(CALLS, name, tmp_path)) == CALLS


def test_arrow_structs_lose_the_keys_that_are_null(tmp_path: Path) -> None:
    path = write(
        [
            {"messages": [{"role": "user", "content": "a"}, call(x=1)]},
            {"messages": [{"role": "user", "content": "b"}, call(z=["2"])]},
        ],
        "parquet",
        tmp_path,
    )
    one, two = read(path)
    assert one["messages"] == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]},
    ]
    assert two["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"z": ["2"]}


def test_data_sets_of_the_hub_are_read_and_checked_the_same_way() -> None:
    features = Features({"messages": List(Json())})
    tables = Dataset.from_list(CALLS, features=features).with_format("arrow")
    assert [row for _, row in Rows("org/data", "row", lambda: table_rows(tables.iter(1)))] == CALLS
    answers = Dataset.from_dict({"prompt": ["a", "b"], "completion": [7, 8]}).with_format("arrow")
    with pytest.raises(SpecError, match="completion is a column of type int64, not text"):
        list(Rows("org/data", "row", lambda: table_rows(answers.iter(1))))


NUMBERS = (
    "7",
    "-0",
    "1.0",
    "1.50",
    "1e5",
    "1E+05",
    "1e400",
    "12345678901234567890123456789",
    "0.1" + "0" * 30,
)


@pytest.mark.parametrize("listed", [False, True])
def test_numbers_in_json_are_the_text_that_stands_there(listed: bool, tmp_path: Path) -> None:
    rows = [
        f'{{"id": {n}, "prompt": "p", "completion": {n}, "other": "prompt"}}' for n in (*NUMBERS, "9" * 5000)
    ]
    text = f"[{', '.join(rows)}]" if listed else "\n".join(rows)
    path = a_file(tmp_path, text, "rows.json")
    assert [row["completion"] for row in read(path)] == [*NUMBERS, "9" * 5000]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    blank=st.integers(0, 12_000) | st.sampled_from([4093, 4095, 4096, 4097, 8192]),
    of=st.sampled_from([" ", "\n", "\r\n", " \t"]),
    mark=st.booleans(),
)
def test_a_list_may_begin_after_any_blanks(blank: int, of: str, mark: bool, tmp_path: Path) -> None:
    text = "\ufeff" * mark + of * (blank // len(of)) + '[{"text": "a"},\n {"text": "b"}]'
    assert read(a_file(tmp_path, text, "rows.json")) == [{"text": "a"}, {"text": "b"}]
    lines = "\ufeff" * mark + of.replace(" ", "\n") * (blank // len(of)) + '{"text": "a"}\n{"text": "b"}'
    assert read(a_file(tmp_path, lines, "rows.json")) == [{"text": "a"}, {"text": "b"}]


UNUSED = [
    '{"text": "a", "x": null}',
    '{"text": "b", "x": {"page": 1}}',
    '{"text": "c", "x": NaN}',
    '{"text": "d", "x": [1, "2"], "x": 3}',
    '{"text": "e", "x": 2021}',
    f'{{"text": "f", "x": {"9" * 5000}}}',
    '{"x": "\\ud83d", "text": "g"}',
    '{"text": "h", "messages": "text"}',
]


@pytest.mark.parametrize("listed", [False, True])
def test_columns_that_are_not_trained_on_do_not_matter(listed: bool, tmp_path: Path) -> None:
    text = f"[{','.join(UNUSED)}]" if listed else "\n".join(UNUSED)
    assert read(a_file(tmp_path, text, "rows.json")) == [{"text": c} for c in "abcdefgh"]


REFUSED = {
    '{"text": "a", "text": "b"}': "has text twice",
    '{"text": "a", "te\\u0078t": "b"}': "has text twice",
    '{"messages": [{"role": "user", "role": "tool", "content": "a"}]}': "messages: an object has role twice",
    '{"messages": [{"role": "user", "content": "a", "tool_calls": [{"function": {"a": 1, "a": 2}}]}]}':
        "messages: an object has a twice",
    '{"text": "\\ud83d"}': "text has \\ud83d, half of a pair",
    '{"text": "x\\ude00y"}': "text has \\ude00, half of a pair",
    '{"messages": [{"role": "user", "content": "\\ud83d"}]}': "messages has \\ud83d, half of a pair",
    '{"text": true}': 'text is not text but true or false; write it in quotes, such as "true"',
    '{"text": null}': 'text is null; give it text, "" for none',
    '{"text": ["a"]}': "text is not text but a list",
    '{"text": {"a": 1}}': "text is not text but an object",
    '{"text": -Infinity}': "text is not text but a number",
    '{"prompt": "a"}': "it has: prompt",
    "{'text': 1}": "is not JSON",
    '"text"': "is not a JSON object but text",
}  # fmt: skip


@pytest.mark.parametrize("row", REFUSED)
def test_what_json_can_hold_and_no_text_is_refused_with_its_row(row: str, tmp_path: Path) -> None:
    says = REFUSED[row]
    found = problem(a_file(tmp_path, row + "\n"))
    assert says in found and (found.startswith("line 1") or "has none of" in found)
    listed = problem(a_file(tmp_path, f"[{row}]", "rows.json"))
    assert (
        (says in listed and listed.startswith("row 1"))
        or "is not JSON: line 1" in listed
        or "has none" in listed
    )


def test_whole_pairs_of_surrogates_are_characters(tmp_path: Path) -> None:
    assert read(a_file(tmp_path, '{"text": "\\ud83d\\ude00"}')) == [{"text": "😀"}]


@settings(some_folder, max_examples=40)
@given(rows=pairs, block=st.integers(1, 80), indent=st.sampled_from([None, 0, 3]), cut=st.floats(0, 1))
def test_a_list_is_read_in_blocks_of_any_size(
    rows: list[dict[str, str]], block: int, indent: int | None, cut: float, tmp_path: Path
) -> None:
    """And one that is cut off is told where, as a parse of the whole would say."""
    text = "\ufeff \n" + json.dumps(rows, ensure_ascii=False, indent=indent) + " \n"
    before, json_rows.BLOCK = json_rows.BLOCK, block
    try:
        assert read(a_file(tmp_path, text, "rows.json")) == rows
        short = text[: max(4, int(cut * (len(text) - 4)))]
        assert "is not JSON: line " in problem(a_file(tmp_path, short, "rows.json"))
    finally:
        json_rows.BLOCK = before


def test_where_a_list_is_broken(tmp_path: Path) -> None:
    for text, says in (
        ('[{"text": "a"},\n {"text": }]', "line 2, column 11: Expecting value"),
        ('[{"text": "a"}\n {"text": "b"}]', "line 2, column 2: Expecting ','"),
        ('[{"text": "a"}]\nmore', "line 2, column 1: Extra data"),
        ('[{"text": "a"},]', "line 1, column 16: Expecting value"),
    ):
        assert says in problem(a_file(tmp_path, text, "rows.json"))
    assert "row 2 is not a JSON object but a list" in problem(
        a_file(tmp_path, '[{"text": "a"}, []]', "r.json")
    )


def test_rows_in_an_object_are_told_apart_from_rows(tmp_path: Path) -> None:
    wrapped = json.dumps({"data": [{"text": "a"}]}, indent=1)
    assert "a list under data" in problem(a_file(tmp_path, wrapped, "rows.json"))
    flat = problem(a_file(tmp_path, '{"data": [{"text": "a"}]}', "rows.json"))
    assert "it has: data" in flat and "write the list of rows alone" in flat
    assert "one row a line" in problem(a_file(tmp_path, '{\n"text": "a"\n}', "rows.json"))


@pytest.mark.parametrize(
    ("start", "says"),
    [
        ("hi".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (b"\x1f\x8b\x08", "is compressed with gzip; decompress it"),
        (b"\x28\xb5\x2f\xfd", "is compressed with zstd"),
        (b"PK\x03\x04", "is a zip archive or a spreadsheet"),
        (b"PAR1", "is a Parquet file; name it .parquet"),
    ],
)
def test_files_that_are_not_what_their_name_says(start: bytes, says: str, tmp_path: Path) -> None:
    for suffix in ("jsonl", "json", "csv"):
        assert says in problem(a_file(tmp_path, start + b"\0" * 64, f"rows.{suffix}"))


def test_csv(tmp_path: Path) -> None:
    def csv(text: str | bytes) -> Path:
        return a_file(tmp_path, text, "rows.csv")

    assert read(csv('id,text\r\n1,"two\r\nlines"\r\n\r\n2,\r\n')) == [{"text": "two\r\nlines"}, {"text": ""}]
    assert read(csv("text\ra\rb\r")) == [{"text": "a"}, {"text": "b"}]
    assert "line 1 names text twice" in problem(csv("text,text\na,b\n"))
    assert "line 4 has 1 values, the header has 2" in problem(csv('text,id\n"a\nb",1\nc\n'))
    assert "line 3 is not UTF-8" in problem(csv(b"text\na\n\xe9\n"))
    assert "messages is not a list of messages but text; use a .jsonl file" in problem(csv("messages\n[]\n"))


def column(values: list[Any], kind: pyarrow.DataType | None = None) -> pyarrow.Array:
    return pyarrow.array(values, kind)


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.string(),
        pyarrow.large_string(),
        pyarrow.string_view(),
        pyarrow.dictionary(pyarrow.int8(), pyarrow.large_string()),
    ],
)
def test_columns_of_strings_are_text(kind: pyarrow.DataType, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": column(["a", "", "NA"], pyarrow.string()).cast(kind)}), path)
    assert read(path) == [{"text": "a"}, {"text": ""}, {"text": "NA"}]


@pytest.mark.parametrize(
    "values",
    [[1], [1.5], [True], [datetime.date(2021, 5, 3)], [datetime.datetime(2021, 5, 3)], [b"a"], [{"a": 1}]],
)
def test_columns_of_other_types_are_refused_with_their_type(values: list[Any], tmp_path: Path) -> None:
    table = pyarrow.table({"prompt": ["a"] * len(values), "completion": column(values), "id": column(values)})
    parquet.write_table(table, tmp_path / "rows.parquet")
    found = problem(tmp_path / "rows.parquet")
    assert "completion is a column of type" in found and "save it as text" in found
    Dataset(table.select(["prompt", "id"]).rename_columns(["prompt", "completion"])).save_to_disk(
        tmp_path / "saved"
    )
    assert "completion is a column of type" in problem(tmp_path / "saved")


def test_nulls_in_arrow_are_refused_with_their_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": ["a"] * 2500 + [None], "id": [None] * 2501}), path)
    assert "row 2501: text is null" in problem(path)
    parquet.write_table(pyarrow.table({"text": column([None, None])}), path)
    assert "row 1: text is null" in problem(path)
    Dataset.from_dict({"text": ["a", None]}).save_to_disk(tmp_path / "saved")
    assert "row 2: text is null" in problem(tmp_path / "saved")


@pytest.mark.parametrize("wrap", [pyarrow.list_, pyarrow.large_list, lambda inner: pyarrow.list_(inner, 1)])
def test_lists_of_any_kind_are_messages(wrap: Callable[[Any], pyarrow.DataType], tmp_path: Path) -> None:
    turn = pyarrow.struct(
        [("role", pyarrow.large_string()), ("content", pyarrow.string()), ("name", pyarrow.string())]
    )
    rows = [[{"role": "user", "content": "a"}], [{"role": "user", "content": "b", "name": "n"}]]
    table = pyarrow.table(
        {"messages": column(rows, wrap(turn)), "chat_template_kwargs": column([None, {"a": True}])}
    )
    parquet.write_table(table, tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet") == [
        {"messages": rows[0]}, {"messages": rows[1], "chat_template_kwargs": {"a": True}}
    ]  # fmt: skip


@pytest.mark.parametrize("in_place", [False, True])
def test_a_file_that_was_swapped_for_one_of_its_size_and_date_is_read_again(
    in_place: bool, tokenizer: Path, tmp_path: Path
) -> None:
    """After submission has checked it and a host has scanned it. Its text is a number: it stays as it is written."""
    decode = AutoTokenizer.from_pretrained(str(tokenizer)).decode
    assignment = make_assignment(tmp_path / "rows.jsonl", tokenizer)
    longest, numbers = [], ("1.0e2", "1.500", "-0.00")
    for number in numbers:
        path = a_file(tmp_path, f'{{"text": {number}}}', "rows.jsonl" if in_place else "new.jsonl")
        os.utime(path, (1, 1))
        os.replace(path, assignment.spec.data.path)
        assert check_data(assignment.spec.data.path) == []
        trainer = build_trainer(assignment, tmp_path / "out")
        longest.append(scan(assignment.spec, []).longest)
        assert decode(trainer.train_dataset[0]["input_ids"]) == f"{number}<eos>"
        assert longest[-1] == len(trainer.train_dataset[0]["input_ids"])
