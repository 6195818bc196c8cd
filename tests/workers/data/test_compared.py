"""Rows of preferences: their tokens are those of TRL's own preparation, and what is wrong with them is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pytest
from datasets import Dataset
from pyarrow import parquet
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer

from jobs.errors import SpecError
from tests.workers.builders import TINY, answer, make_assignment, question, write_rows
from workers.data.checks import check_data
from workers.data.datasets import SCHEMAS, build_dataset
from workers.data.layout import Layout
from workers.model.build import build_tokenizer
from workers.profiler.length_scan import scan
from workers.trainer.trainers.kto import _mismatched


def turns(*said: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in said]


def asked(i: int) -> list[dict[str, str]]:
    return turns(("user", question(i)))


PAIRS = [{"prompt": question(i), "chosen": answer(i), "rejected": " No." + answer(i)} for i in range(6)]
CHATS = [
    {
        "prompt": asked(i),
        "chosen": turns(("assistant", answer(i))),
        "rejected": turns(("assistant", "No.")),
    }
    for i in range(6)
]
WHOLE = [
    {"chosen": row["prompt"] + row["chosen"], "rejected": row["prompt"] + row["rejected"]} for row in CHATS
]
LABELLED = [{"prompt": question(i), "completion": answer(i), "label": i % 3 == 0} for i in range(6)]
CHAT_LABELLED = [
    {"prompt": asked(i), "completion": turns(("assistant", answer(i))), "label": i % 3 == 0} for i in range(6)
]
TRL: dict[str, Any] = {
    "dpo": (DPOTrainer, DPOConfig, AutoModelForCausalLM),
    "kto": (KTOTrainer, KTOConfig, AutoModelForCausalLM),
    "reward": (RewardTrainer, RewardConfig, AutoModelForSequenceClassification),
}


def a_spec(data: Path, tokenizer: Path, trainer: str, length: int = 64) -> Any:
    training = {"sequence_length": length}
    return make_assignment(data, tokenizer, trainer=trainer, training=training).spec


@pytest.mark.parametrize(
    ("trainer", "rows"),
    [
        ("dpo", PAIRS),
        ("dpo", CHATS),
        ("dpo", WHOLE),
        ("reward", PAIRS),
        ("reward", CHATS),
        ("reward", WHOLE),
        ("kto", LABELLED),
        ("kto", CHAT_LABELLED),
    ],
    ids=["pairs", "chats", "whole", "reward", "reward chats", "reward whole", "labels", "chat labels"],
)
def test_tokens_are_those_of_trls_own_preparation(
    trainer: str, rows: list[dict[str, Any]], tokenizer: Path, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", rows)
    spec = a_spec(data, tokenizer, trainer)
    ours = build_dataset(spec, build_tokenizer(spec.model, []), tmp_path / "data")
    kind, config, model = TRL[trainer]
    more = {"num_labels": 1, "pad_token_id": 1} if trainer == "reward" else {}
    made = model.from_config(AutoConfig.for_model(**TINY, **more))
    given = {"ref_model": model.from_config(AutoConfig.for_model(**TINY))} if trainer != "reward" else {}
    theirs = kind(
        model=made,
        args=config(
            str(tmp_path / "trl"),
            report_to="none",
            use_cpu=True,
            bf16=False,
            max_length=64,
            per_device_train_batch_size=2,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(str(tokenizer)),
        **given,
    ).train_dataset
    names = SCHEMAS[trainer].names
    assert [[row[name] for name in names] for row in ours] == [
        [row[name] for name in names] for row in theirs
    ]
    if trainer == "kto":
        mixed = ours.map(_mismatched, batched=True, batch_size=2)
        assert mixed["KL_completion_ids"] == theirs["KL_completion_ids"]


@pytest.mark.parametrize(
    ("trainer", "row", "told"),
    [
        ("sft", PAIRS[0], "suit trainer: dpo or reward"),
        ("dpo", LABELLED[0], "suit trainer: sft or kto"),
        ("dpo", {"chosen": "a", "rejected": "b"}, "needs prompt, chosen and rejected"),
        ("kto", PAIRS[0], "trainer: kto needs prompt, completion and label; rows like these suit trainer"),
        ("reward", {"text": "a"}, "suit trainer: sft"),
        ("kto", {**LABELLED[0], "label": 1}, "line 2: label is not true or false but"),
        ("kto", {**LABELLED[0], "label": None}, "line 2: label is null"),
        ("kto", {"prompt": "a", "completion": "b"}, "label"),
        ("dpo", {**PAIRS[0], "rejected": None}, "line 2: rejected is null"),
        ("dpo", {**PAIRS[0], "chosen": True}, "line 2: chosen is not text but"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_with_its_place(
    trainer: str, row: dict[str, Any], told: str, tmp_path: Path
) -> None:
    fine = {"dpo": PAIRS, "kto": LABELLED, "reward": PAIRS}.get(trainer, [{"text": "a"}])[0]
    beside = [row] if set(row) != set(fine) else [fine, row]
    data = write_rows(tmp_path / "rows.jsonl", beside)
    (fault,) = check_data(str(data), layout=Layout(trainer))
    assert told in f"{fault.problem}; {fault.fix}", fault


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_labels_of_other_files(kind: str, tokenizer: Path, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{kind}"
    if kind == "csv":
        path.write_text("prompt,completion,label\na,b,True\na,c,false\n")
    else:
        parquet.write_table(
            pyarrow.table({"prompt": ["a", "a"], "completion": ["b", "c"], "label": [True, False]}), path
        )
    assert check_data(str(path), layout=Layout("kto")) == []
    spec = a_spec(path, tokenizer, "kto")
    assert list(build_dataset(spec, build_tokenizer(spec.model, []), tmp_path / "data")["label"]) == [
        True,
        False,
    ]


def test_conversations_that_share_nothing_have_no_prompt(tokenizer: Path, tmp_path: Path) -> None:
    rows = [*WHOLE, {"chosen": asked(1) + CHATS[1]["chosen"], "rejected": asked(2) + CHATS[2]["rejected"]}]
    spec = a_spec(write_rows(tmp_path / "rows.jsonl", rows), tokenizer, "dpo")
    with pytest.raises(SpecError, match="line 7: chosen and rejected begin with no message in common"):
        build_dataset(spec, build_tokenizer(spec.model, []), tmp_path / "data")


def test_lengths_are_of_the_longer_one_and_of_mixed_rows(tokenizer: Path, tmp_path: Path) -> None:
    """A sequence for the KL term has one row's prompt and another one's completion."""
    long, short = question(1) * 3, "a"
    rows = [
        {"prompt": long, "completion": short, "label": True},
        {"prompt": short, "completion": long, "label": False},
    ]
    spec = a_spec(write_rows(tmp_path / "kto.jsonl", rows), tokenizer, "kto", 4096)
    alone = scan(spec, []).bins[-1].longest
    assert scan(spec, []).longest > alone * 1.7
    pairs = [{"prompt": "a", "chosen": short, "rejected": long}]
    spec = a_spec(write_rows(tmp_path / "dpo.jsonl", pairs), tokenizer, "dpo", 4096)
    found = scan(spec, [])
    assert found.count == 1 and found.longest > 10


def test_rows_without_room_for_an_answer_are_left_out(tokenizer: Path, tmp_path: Path) -> None:
    rows = [*PAIRS, {**PAIRS[0], "prompt": question(1) * 40}]
    for trainer in ("dpo", "reward"):
        spec = a_spec(write_rows(tmp_path / f"{trainer}.jsonl", rows), tokenizer, trainer)
        assert len(build_dataset(spec, build_tokenizer(spec.model, []), tmp_path / trainer)) == len(PAIRS)
        assert scan(spec, []).dropped == 1
