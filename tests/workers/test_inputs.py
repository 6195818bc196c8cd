"""Bad input: each is named, with what would be right."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from datasets import Dataset, DatasetDict
from pyarrow import parquet

from jobs.errors import SpecError
from jobs.spec import JobSpec, parse_spec
from tests.workers.builders import prompt_rows, write_rows
from workers.inputs import check_data, check_inputs, check_model, check_tokenizer, resolve_output

KNOWN = ["llama", "mistral", "qwen2"]
CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


def spec(**sections: Any) -> JobSpec:
    return parse_spec({"model": "org/model", "data": "org/data", **sections})


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
    "number.jsonl": ('{"text": 5}\n', "line 1: text is not text but a number"),
    "flat.jsonl": ('{"messages": "hi"}\n', "messages is not a list of messages but text"),
    "no-turns.jsonl": ('{"messages": []}\n', "messages is not a list of messages but an empty list"),
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


def model(folder: Path, config: Any, weights: str = "model.safetensors") -> str:
    folder.mkdir()
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if weights:
        (folder / weights).write_bytes(b"")
    return str(folder)


def test_models(tmp_path: Path) -> None:
    assert check_model(model(tmp_path / "good", {"model_type": "llama"}), KNOWN) == []
    assert check_model("org/model", KNOWN) == []
    for path, says in (
        (str(tmp_path / "gone"), "does not exist"),
        (str(tmp_path / "good" / "config.json"), "is a file"),
        (str(tmp_path), "has no config.json"),
        (model(tmp_path / "text", "{"), "is not readable as JSON"),
        (model(tmp_path / "typeless", {"a": 1}), "has no model_type"),
        (
            model(tmp_path / "flat", {"model_type": "llama", "hidden_size": 0}),
            "has hidden_size 0, which is no size",
        ),
        (model(tmp_path / "misspelt", {"model_type": "lama"}), "did you mean llama?"),
        (
            model(tmp_path / "new", {"model_type": "zzz"}),
            "is no model type that the installed transformers knows",
        ),
        (model(tmp_path / "bare", {"model_type": "llama"}, weights=""), "has no weights"),
    ):
        faults = check_model(path, KNOWN)
        assert len(faults) == 1 and says in str(faults[0]), faults
        assert faults[0].path == "model.path" and faults[0].fix
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    assert "give its base model" in str(check_model(str(tmp_path / "adapter"), KNOWN)[0])


def test_while_no_host_has_said_what_it_knows_no_type_is_wrong(tmp_path: Path) -> None:
    assert check_model(model(tmp_path / "new", {"model_type": "zzz"}), ()) == []


def test_every_fault_of_a_spec_at_once(tmp_path: Path) -> None:
    config = {"config": {"model_type": "mistrial"}, "tokenizer": str(tmp_path)}
    faults = check_inputs(spec(model=config, data=str(tmp_path / "gone.jsonl")), KNOWN)
    assert [fault.path for fault in faults] == ["data.path", "model.config.model_type", "model.tokenizer"]
    assert check_inputs(spec(), KNOWN) == []


def test_tokenizers(tmp_path: Path, tokenizer: Path) -> None:
    assert check_tokenizer(str(tokenizer)) == [] and check_tokenizer("org/model") == []
    assert "holds no tokenizer" in str(check_tokenizer(str(tmp_path))[0])
    assert "does not exist" in str(check_tokenizer(str(tmp_path / "gone"))[0])


@pytest.mark.parametrize(
    ("sections", "folder"),
    [
        ({}, "job-7"),
        ({"name": "demo"}, "job-7-demo"),
        ({"output": "a/b"}, "a/b"),
        ({"output": "here/"}, "here"),
    ],
)
def test_where_results_go(sections: Any, folder: str, tmp_path: Path) -> None:
    assert resolve_output(tmp_path, spec(**sections), 7) == tmp_path / folder


def test_results_stay_inside_the_root(tmp_path: Path) -> None:
    root = tmp_path / "out"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    (tmp_path / "alias").symlink_to(root)
    assert resolve_output(tmp_path / "alias", spec(output="x"), 1) == root / "x"
    for output in (
        ".",
        "link",
        "link/x",
        "/etc/x",
        "../x",
        "a/../../x",
        str(tmp_path / "outside"),
        str(root),
    ):
        with pytest.raises(SpecError) as raised:
            # Past the spec's own check: this one has the file system's word.
            resolve_output(root, spec().model_copy(update={"output": output}), 1)
        assert raised.value.faults[0].path == "output" and str(root) in str(raised.value)


def test_the_server_needs_no_torch() -> None:
    code = (
        "import sys, workers.inputs, workers.folder;"
        "print([m for m in ('torch', 'pyarrow', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_long_csv_fields_are_read(tmp_path: Path) -> None:
    """The csv module refuses fields over 128 KiB by default; the data may have them."""
    path = tmp_path / "long.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["text"], ["x" * 200_000]])
    assert check_data(str(path)) == []
