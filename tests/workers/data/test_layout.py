"""`data.columns` and `data.format`: what the file calls its columns, rows in the shapes of Alpaca and ShareGPT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from jobs.errors import SpecError
from jobs.jobfile.options.columns import PLAIN
from jobs.jobfile.spec import parse_spec
from jobs.jobfile.trainers.facts import TRAINERS
from jobs.state import Outcome
from tests.workers.builders import claimed, make_assignment, write_rows
from workers.checks.inputs import check_inputs
from workers.data.checks import check_data
from workers.data.columns import EXTRAS
from workers.data.layout import Layout
from workers.data.rows import open_rows
from workers.profiler.length_scan import scan
from workers.trainer.train import train

ALPACA = [
    {"instruction": f"Say {i}.", "input": "" if i % 2 else "Loudly.", "output": f"{i}!", "id": i}
    for i in range(8)
]
SHAREGPT = [
    {
        "conversations": [{"from": "human", "value": f"Say {i}."}, {"from": "gpt", "value": f"{i}!"}],
        "system": "Be short.",
    }
    for i in range(8)
]
NAMED = Layout(names=(("prompt", "question"), ("completion", "reply")))
QUESTIONS = [{"question": "Why?", "reply": "So.", "prompt": "not this"}] * 3


def read(path: Path, layout: Layout) -> list[dict[str, Any]]:
    return [row for _, row in open_rows(str(path), layout=layout)]


def written(folder: Path, suffix: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"rows{suffix}"
    if suffix == ".jsonl":
        return write_rows(path, rows)
    if suffix == ".json":
        path.write_text(json.dumps(rows))
    elif suffix == ".csv":
        Dataset.from_list(rows).to_csv(path, index=False)
    elif suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(path)
    else:
        Dataset.from_list(rows).save_to_disk(path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet", ""])
def test_columns_that_the_file_names_otherwise(suffix: str, tmp_path: Path) -> None:
    """A column of our name gives way to the one that is mapped to it."""
    path = written(tmp_path, suffix, QUESTIONS)
    assert read(path, NAMED) == [{"prompt": "Why?", "completion": "So."}] * 3


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet", ""])
def test_rows_of_alpaca(suffix: str, tmp_path: Path) -> None:
    rows = [{name: value for name, value in row.items() if name != "id"} for row in ALPACA]
    first, second = read(written(tmp_path, suffix, rows), Layout(format="alpaca"))[:2]
    assert first["prompt"] == [{"role": "user", "content": "Say 0.\nLoudly."}]
    assert first["completion"] == [{"role": "assistant", "content": "0!"}]
    assert second["prompt"] == [{"role": "user", "content": "Say 1."}]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ""])
def test_rows_of_sharegpt(suffix: str, tmp_path: Path) -> None:
    (first, *_) = read(written(tmp_path, suffix, SHAREGPT), Layout(format="sharegpt"))
    assert first["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Say 0."},
        {"role": "assistant", "content": "0!"},
    ]


def test_history_and_system_of_alpaca(tmp_path: Path) -> None:
    row = {**ALPACA[1], "system": "Be short.", "history": [["Hello?", "Yes."]]}
    (made,) = read(write_rows(tmp_path / "rows.jsonl", [row]), Layout(format="alpaca"))
    assert [turn["role"] for turn in made["prompt"]] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize(("form", "rows"), [("alpaca", ALPACA), ("sharegpt", SHAREGPT)])
def test_they_are_trained_on(form: str, rows: list[dict[str, Any]], tmp_path: Path, tokenizer: Path) -> None:
    renamed = [
        {("turns" if name == "conversations" else name): value for name, value in row.items()} for row in rows
    ]
    data = write_rows(tmp_path / "rows.jsonl", renamed)
    assignment = make_assignment(data, tokenizer, training={"steps": 1, "sequence_length": 64})
    columns = {"conversations": "turns"} if form == "sharegpt" else {}
    new = {**assignment.spec.model_dump(), "data": {"path": str(data), "format": form, "columns": columns}}
    new = {name: new[name] for name in ("model", "data", "method", "training")}
    assignment = assignment.model_copy(update={"spec": parse_spec({**new, "method": "full"})})
    assert check_inputs(assignment.spec) == []
    assert scan(assignment.spec, []).count == 8
    ended = train(assignment, claimed(tmp_path, assignment), tmp_path, tmp_path / "out")
    assert ended.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("row", "layout", "said"),
    [
        ({"a": "x"}, NAMED, "has no column question; it has: a"),
        ({"a": "x"}, Layout(format="alpaca"), "data.format alpaca needs instruction and output"),
        ({"instruction": 3, "output": None}, Layout(format="alpaca"), "output is not text but null"),
        ({"conversations": "x"}, Layout(format="sharegpt"), "conversations is not a list of turns but text"),
        ({"conversations": [{"role": "user"}]}, Layout(format="sharegpt"), "turn 1 has no from and value"),
        (
            {"conversations": [{"from": "gpt", "value": 3}]},
            Layout(format="sharegpt"),
            "message 1 (assistant) has content that is a number",
        ),
    ],
)
def test_rows_that_are_not_as_the_job_file_says(
    row: dict[str, Any], layout: Layout, said: str, tmp_path: Path
) -> None:
    (fault,) = check_data(str(write_rows(tmp_path / "rows.jsonl", [row])), layout=layout)
    assert said in str(fault)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"columns": {"question": "q"}}, "data.columns.question: is no column that is trained on"),
        ({"columns": {"prompt": "q", "completion": "q"}}, "data.columns.completion: is named twice"),
        ({"format": "alpaca", "columns": {"prompt": "q"}}, "use instruction, output, input, system, history"),
        ({"format": "vicuna"}, "data.format"),
    ],
)
def test_what_the_job_file_may_not_say(data: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as raised:
        parse_spec({"model": "org/model", "data": {"path": "rows.jsonl", **data}})
    assert said in str(raised.value)


def test_the_columns_are_those_of_all_trainers() -> None:
    needed = {name for facts in TRAINERS.values() for kind in facts.columns for name in kind}
    assert set(PLAIN) == needed | set(EXTRAS)


def test_a_format_is_for_supervised_fine_tuning() -> None:
    with pytest.raises(SpecError, match=r"data\.format: only applies to trainer: sft"):
        parse_spec({"model": "org/model", "data": {"path": "r.jsonl", "format": "alpaca"}, "trainer": "dpo"})
