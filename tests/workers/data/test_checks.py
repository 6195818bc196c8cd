"""Bad training data: each fault is named, with what would be right."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from datasets import Dataset, DatasetDict
from pyarrow import parquet

from tests.workers.builders import prompt_rows, write_rows
from workers.data.checks import check_data

CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


def problem(path: Path | str, **kwargs: Any) -> str:
    """The one fault of a data file, as text."""
    faults = check_data(str(path), **kwargs)
    assert len(faults) == 1, faults
    assert faults[0].path in ("data.path", "data.split") and faults[0].given
    return str(faults[0])


GOOD = {
    "a.jsonl": "".join(json.dumps(row) + "\n" for row in prompt_rows(3)),
    "blank-lines.jsonl": '{"text": "a"}\n\n  \n{"text": "b"}',
    "chat.jsonl": json.dumps({"messages": CHAT}) + "\n",
    "chat-prompt.jsonl": json.dumps({"prompt": CHAT[:1], "completion": CHAT[1:]}) + "\n",
    "more-columns.jsonl": '{"id": 1, "text": "a"}\n{"text": "b", "id": null}\n',
    "list.json": json.dumps([{"text": "a"}, {"text": "b"}], indent=1),
    "lines.json": '{"text": "a"}\n{"text": "b"}\n',
    "a.csv": 'prompt,completion\n"two\nlines",b\nc,d\n',
}
BAD = {
    "empty.jsonl": ("", "is empty"),
    "blank.jsonl": ("\n\n", "has no rows"),
    "broken.jsonl": ('{"text": "a"}\n{"text": \n', "line 2 is not JSON"),
    "array.jsonl": ('{"text": "a"}\n[1]\n', "line 2 is not a JSON object but a list"),
    "columns.jsonl": (
        '{"question": "a", "reply": "b"}\n',
        "it has: question, reply",
    ),
    "half.jsonl": ('{"prompt": "a"}\n', "it has: prompt"),
    "gap.jsonl": ('{"prompt": "a", "completion": "b"}\n{"prompt": "c"}\n', "line 2: completion is missing"),
    "true.jsonl": ('{"text": true}\n', "line 1: text is not text but true or false"),
    "nan.jsonl": ('{"text": NaN}\n', "line 1: text is not text but NaN"),
    "flat.jsonl": ('{"messages": "hi"}\n', "messages is not a list of messages but text"),
    "no-turns.jsonl": ('{"messages": []}\n', "messages is an empty list"),
    "roles.jsonl": ('{"messages": [{"content": "x"}]}\n', "a message without role and content"),
    "deep.jsonl": ("[" * 100_000 + "\n", "line 1 is nested too deep"),
    "list.json": ('[{"text": "a"},\n {"text": }]', "is not JSON: line 2"),
    "no-rows.json": ("[]", "has no rows"),
    "columns.csv": ("a,b\n1,2\n", "it has: a, b"),
    "ragged.csv": ("text,id\na,1\nb\n", "line 3 has 1 values, the header has 2"),
    "quote.csv": ('text\n"a\n', "is not readable as CSV"),
    "header.csv": ("text\n", "has no rows"),
    "data.txt": ("hello", "has a name that ends in .txt"),
    "data": ("hello", "has a name that ends in nothing"),
    "a.parquet": ("PAR1 but not really", "is not a Parquet file, or is cut off"),
    "b.parquet": ("PAR1....PAR1", "can't be read as Parquet"),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_data(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(GOOD[name])
    assert check_data(str(tmp_path / name)) == []


@pytest.mark.parametrize("name", BAD)
def test_bad_data(name: str, tmp_path: Path) -> None:
    content, says = BAD[name]
    (tmp_path / name).write_text(content)
    assert says in problem(tmp_path / name)


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "\xe9"}\n')
    assert "line 2 is not UTF-8" in problem(path)
    path = tmp_path / "latin.csv"
    path.write_bytes(b"text\n\xe9\n")
    assert "is not UTF-8" in problem(path)


def test_names_that_are_nowhere(tmp_path: Path) -> None:
    assert "does not exist" in problem(tmp_path / "gone.jsonl")
    assert "does not exist" in problem("gone.jsonl")
    assert check_data("org/data-set") == [] and check_data("squad") == []


def test_parquet(tmp_path: Path) -> None:
    def written(columns: dict[str, list[str]]) -> Path:
        path = tmp_path / f"{'-'.join(columns)}-{len(next(iter(columns.values())))}.parquet"
        parquet.write_table(pyarrow.table(columns), path)
        return path

    assert check_data(str(written({"prompt": ["a"], "completion": ["b"]}))) == []
    assert "it has: a" in problem(written({"a": ["1"]}))
    assert "has no rows" in problem(written({"text": []}))
    cut = written({"text": ["a", "b"]})
    cut.write_bytes(cut.read_bytes()[:-10])
    assert "cut off" in problem(cut)


def test_folders_that_datasets_saved(tmp_path: Path) -> None:
    one = Dataset.from_list([{"text": "a"}])
    one.save_to_disk(tmp_path / "one")
    DatasetDict({"train": one, "test": Dataset.from_list([{"b": "a"}])}).save_to_disk(tmp_path / "two")
    assert check_data(str(tmp_path / "one")) == []
    assert check_data(str(tmp_path / "two"), "train") == []
    assert "it has: b" in problem(tmp_path / "two", split="test")
    assert "it has train, test" in problem(tmp_path / "two", split="dev")
    next((tmp_path / "one").glob("*.arrow")).unlink()
    assert "is missing" in problem(tmp_path / "one")
    (tmp_path / "one" / "state.json").write_text("{")
    assert "can't be read" in problem(tmp_path / "one")
    assert "did not save" in problem(tmp_path)


def test_a_limit_reads_only_the_beginning(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", prompt_rows(10))
    path.write_text(path.read_text() + "{broken\n")
    assert check_data(str(path), limit=10) == []
    assert "line 11" in problem(path)


def test_an_unchanged_file_is_read_once(tmp_path: Path) -> None:
    """A thousand submits of one file; and a file that changed is read again."""
    path = write_rows(tmp_path / "rows.jsonl", prompt_rows(20_000))
    began = time.process_time()
    assert check_data(str(path)) == []
    first = time.process_time() - began
    began = time.process_time()
    for _ in range(1000):
        assert check_data(str(path)) == []
    assert time.process_time() - began < max(first * 20, 0.5)
    path.write_text("")
    assert "is empty" in problem(path)


def test_long_csv_fields_are_read(tmp_path: Path) -> None:
    """The csv module refuses fields over 128 KiB by default; the data may have them."""
    path = tmp_path / "long.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["text"], ["x" * 200_000]])
    assert check_data(str(path)) == []
