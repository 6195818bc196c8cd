"""Lengths against what a real trainer is given of the same data, and against the limits of a scan."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from jobs.jobfile.spec import JobSpec
from jobs.memory.sequence_lengths import Lengths
from jobs.messages.reports import TraceRequest
from tests.workers.builders import CHAT_TEMPLATE, answer, make_assignment, question, write_rows
from workers.agent.profile_child import trace_in_child
from workers.data.tokens import BATCH_ROWS
from workers.profiler.__main__ import scanned
from workers.profiler.length_scan import scan
from workers.trainer.train import build_trainer


def chat(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


TEXTS = [{"text": (question(i) + answer(i)) * (i % 7) + ("<eos>" if i % 3 else "")} for i in range(40)]
CHATS = [{"messages": chat(("user", question(i) * (i % 5)), ("assistant", answer(i)))} for i in range(40)]
PAIRS = [{"prompt": question(i) * (1 + i % 4), "completion": answer(i) * (i % 3)} for i in range(40)]
CHAT_PAIRS = [
    {
        "prompt": chat(("user", question(i) * (i % 4))),
        "completion": chat(("assistant", answer(i))),
    }
    for i in range(40)
]
KINDS: dict[str, list[dict[str, Any]]] = {
    "text": TEXTS,
    "messages": CHATS,
    "pairs": PAIRS,
    "chat pairs": CHAT_PAIRS,
}


@pytest.fixture(scope="module")
def starting_tokenizer(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that puts a token before every text, as Llama's does: a chat template must not get it twice."""
    made = AutoTokenizer.from_pretrained(str(tokenizer))
    number = made.convert_tokens_to_ids("<pad>")
    made.backend_tokenizer.post_processor = TemplateProcessing("<pad> $A", None, [("<pad>", number)])
    made.chat_template = CHAT_TEMPLATE
    folder = tmp_path_factory.mktemp("starting")
    made.save_pretrained(folder)
    assert AutoTokenizer.from_pretrained(str(folder))("a")["input_ids"][0] == number
    return folder


def a_spec(data: Path, tokenizer: Path, length: int, **training: Any) -> JobSpec:
    return make_assignment(data, tokenizer, training={"sequence_length": length, **training}).spec


def prepared(spec: JobSpec, tmp_path: Path) -> Dataset:
    """The training data as it reaches the trainer."""
    sections = spec.model_dump(mode="json", exclude_unset=True, include={"training"})
    assert spec.model.tokenizer is not None
    assignment = make_assignment(Path(spec.data.path), Path(spec.model.tokenizer), **sections)
    return build_trainer(assignment, tmp_path / "out").train_dataset


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("length", "starting"), [(28, False), (48, True), (256, False)])
def test_lengths_are_those_that_the_trainer_gets(
    kind: str,
    length: int,
    starting: bool,
    tokenizer: Path,
    starting_tokenizer: Path,
    tmp_path: Path,
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", KINDS[kind])
    spec = a_spec(data, starting_tokenizer if starting else tokenizer, length)
    given = Counter(len(ids) for ids in prepared(spec, tmp_path)["input_ids"])
    found = scan(spec, [])
    assert found == Lengths.counted(
        given, rows=40, truncated=found.truncated, dropped=40 - given.total(), longest_row=found.longest_row
    )
    assert found.truncated <= given[length]


def test_prompts_that_leave_nothing_to_learn_are_left_out(tokenizer: Path, tmp_path: Path) -> None:
    """So that the comparison above has met the case."""
    data = write_rows(tmp_path / "rows.jsonl", PAIRS)
    dropped = scan(a_spec(data, tokenizer, 16), []).dropped
    assert 0 < dropped < 40
    assert scan(a_spec(data, tokenizer, 16, packing=True), []).dropped == dropped


def test_packed_rows_are_no_longer_than_said(tokenizer: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", TEXTS)
    for length in (48, 256):
        spec = a_spec(data, tokenizer, length, packing=True)
        made = prepared(spec, tmp_path)
        found = scan(spec, [])
        documents = Counter(n for lengths in made["seq_lengths"] for n in lengths)
        assert documents.total() == found.count and sum(n * c for n, c in documents.items()) == found.tokens
        assert max(map(len, made["input_ids"])) <= found.longest_batch_tokens(length, packing=True)


def test_a_bound_on_rows_or_time_makes_a_sample(tokenizer: Path, tmp_path: Path) -> None:
    """The sample is spread over a file that is sorted by length."""
    count = 20 * BATCH_ROWS
    data = write_rows(tmp_path / "rows.jsonl", [{"text": "a" * (1 + i // 100)} for i in range(count)])
    spec = a_spec(data, tokenizer, 512)
    whole = scan(spec, [])
    assert (whole.sampled, whole.count) == (False, count)
    few = scan(spec, [], most_rows=5 * BATCH_ROWS)
    assert (few.sampled, few.count, few.rows) == (True, 5 * BATCH_ROWS, count)
    assert few.mean_tokens == pytest.approx(whole.mean_tokens, rel=0.25)
    assert few.warnings == ()  # every row was read and checked


def test_a_scan_that_runs_out_of_time_says_how_many_rows_it_checked(tokenizer: Path, tmp_path: Path) -> None:
    count = 40 * BATCH_ROWS
    data = write_rows(tmp_path / "rows.jsonl", [{"text": "word " * 20} for _ in range(count)])
    spec = a_spec(data, tokenizer, 512)
    ticks = (float(k) for k in range(10_000))
    late = scan(spec, [], most_seconds=30.0, clock=lambda: next(ticks))
    assert late.sampled and late.count < count
    assert late.rows == pytest.approx(count, rel=0.15)  # by the share of the file that was read
    assert len(late.warnings) == 1 and "rows were checked" in late.warnings[0]
    assert late.longest_batch_tokens(512, packing=False) == 512


def test_conversations_past_the_time_are_looked_at_and_not_rendered(tokenizer: Path, tmp_path: Path) -> None:
    """On a clock of one tick a look: each row is read, only some are rendered."""
    count = 40 * BATCH_ROWS
    data = write_rows(tmp_path / "rows.jsonl", [{"messages": CHATS[0]["messages"]} for _ in range(count)])
    ticks = (float(k) for k in range(10_000))
    late = scan(
        a_spec(data, tokenizer, 64),
        [],
        most_rows=4 * BATCH_ROWS,
        most_seconds=60.0,
        clock=lambda: next(ticks),
    )
    assert late.rows == count and late.sampled
    assert [w for w in late.warnings if "were rendered with the chat template" in w]


def test_data_out_of_reach_is_a_note(tokenizer: Path, rows: Path, tmp_path: Path) -> None:
    def note(data: str | Path, model: dict[str, Any] | None = None) -> str:
        spec = make_assignment(Path("x"), tokenizer, model=model or {}).spec
        spec = spec.model_copy(update={"data": spec.data.model_copy(update={"path": str(data)})})
        found = scanned(
            TraceRequest(key="k", data_key="d", spec=spec), TraceRequest(key="k", spec=spec).failed("no")
        )
        assert (found.key, found.error, found.data_key, found.lengths) == ("k", "no", "d", None)
        return found.data_error or ""

    assert "gone.jsonl" in note(tmp_path / "gone.jsonl")
    bad = write_rows(tmp_path / "bad.jsonl", [{"colour": 1}])
    assert "none of the expected columns" in note(bad)
    assert "no-tokenizer" in note(rows, {"tokenizer": str(tmp_path / "no-tokenizer")})
    bare = AutoTokenizer.from_pretrained(str(tokenizer))
    bare.chat_template = None
    bare.save_pretrained(tmp_path / "bare")
    chats = write_rows(tmp_path / "chats.jsonl", CHATS)
    assert "chat_template" in note(chats, {"tokenizer": str(tmp_path / "bare")})


def test_one_child_answers_for_profile_and_lengths(tokenizer: Path, rows: Path) -> None:
    spec = make_assignment(rows, tokenizer).spec
    both = trace_in_child(TraceRequest(key="k", data_key="d", spec=spec))
    assert (both.keys, both.error, both.data_error) == (("k", "d"), None, None)
    assert both.profile is not None and both.lengths == scan(spec, []).as_dict()
    alone = trace_in_child(TraceRequest(data_key="d", spec=spec))
    assert alone == both.model_copy(update={"key": "", "profile": None})


def test_a_limit_says_so_for_all_that_was_wanted(tokenizer: Path, rows: Path) -> None:
    request = TraceRequest(key="k", data_key="d", spec=make_assignment(rows, tokenizer).spec)
    found = trace_in_child(request, timeout_s=0.3)
    assert "did not end" in (found.error or "") and found.error == found.data_error
    assert found.keys == ("k", "d")
