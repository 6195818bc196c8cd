"""Tokens and labels against TRL's own preparation of the same rows; whose turns are learned from."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Features, Json, List, Value
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import ByteLevel, TemplateProcessing
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer
from trl.chat_template_utils import llama3_chat_template, qwen2_5_chat_template, qwen3_chat_template

from jobs.errors import SpecError
from jobs.jobfile.spec import JobSpec
from jobs.memory.sequence_lengths import FORMAT
from tests.workers.builders import CHAT_TEMPLATE, TINY, answer, make_assignment, question, write_rows
from workers.checks.inputs import check_inputs
from workers.data.datasets import build_dataset
from workers.data.rendering import marking_of
from workers.data.tokens import IGNORED, Notes
from workers.model.build import build_tokenizer
from workers.profiler.length_scan import scan
from workers.trainer.train import build_trainer

MARKED = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{{ eos_token }}{% endgeneration %}{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Writes an earlier answer without its thoughts, as reasoning models' templates do.
FORGETFUL = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.role == 'assistant' and not loop.last %}{{ m.content.split('</think>')[-1] }}"
    "{% else %}{{ m.content }}{% endif %}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def chat(*turns: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)]


TEXTS = [{"text": (question(i) + answer(i)) * (1 + i % 4) + ("<eos>" if i % 3 else "")} for i in range(24)]
PAIRS = [{"prompt": question(i) * (1 + i % 4), "completion": answer(i) * (i % 3)} for i in range(24)]
CHATS = [
    {"messages": chat(question(i), answer(i), *((question(i + 1), answer(i + 1)) if i % 2 else ()))}
    for i in range(24)
]
CHAT_PAIRS = [
    {
        "prompt": [{"role": "system", "content": "Count."}, *chat(question(i) * (1 + i % 4))],
        "completion": [{"role": "assistant", "content": answer(i)}],
    }
    for i in range(24)
]


def with_template(tokenizer: Path, folder: Path, template: str | None, **tokens: Any) -> Path:
    made = AutoTokenizer.from_pretrained(str(tokenizer), **tokens)
    made.chat_template = template
    made.save_pretrained(folder)
    return folder


def adds(tokenizer: Path, folder: Path, before: str = "", after: str = "", **tokens: Any) -> Path:
    """A tokenizer that puts these tokens around every text by itself."""
    made = AutoTokenizer.from_pretrained(str(tokenizer), **tokens)
    special = [(one, made.convert_tokens_to_ids(one)) for one in (before, after) if one]
    made.backend_tokenizer.post_processor = TemplateProcessing(f"{before} $A {after}".strip(), None, special)
    made.save_pretrained(folder)
    return folder


def a_spec(data: Path, tokenizer: Path, loss_on: str | None = None, **training: Any) -> JobSpec:
    model = {"config": {**TINY, "vocab_size": 400}}  # room for what tests add to the tokenizer
    spec = make_assignment(data, tokenizer, model=model, training={"sequence_length": 64, **training}).spec
    return spec.model_copy(update={"data": spec.data.model_copy(update={"loss_on": loss_on})})


def ours(spec: JobSpec, folder: Path) -> list[tuple[list[int], list[int]]]:
    made = build_dataset(spec, build_tokenizer(spec.model, []), folder)
    return [(row["input_ids"], row["labels"]) for row in made]


def trls(
    rows: list[dict[str, Any]], tokenizer: Path, folder: Path, **config: Any
) -> list[tuple[list[int], list[int]]]:
    """What a plain SFTTrainer makes of the rows, in which Arrow can't fill in keys."""
    text = Value("string")
    features = Features(
        {name: List(Json()) if isinstance(value, list) else text for name, value in rows[0].items()}
    )
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**TINY))
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(folder), report_to="none", use_cpu=True, bf16=False, max_length=64, **config
        ),
        train_dataset=Dataset.from_list(rows, features=features),
        processing_class=AutoTokenizer.from_pretrained(str(tokenizer)),
    )
    return [(row["input_ids"], row["labels"]) for row in trainer.train_dataset]


def said(spec: JobSpec, ids: list[int], labels: list[int]) -> str:
    """What is learned from, as text."""
    tokenizer = build_tokenizer(spec.model, [])
    return str(tokenizer.decode([one for one, label in zip(ids, labels, strict=True) if label != IGNORED]))


@pytest.mark.parametrize(
    "rows", [TEXTS, PAIRS, CHATS, CHAT_PAIRS], ids=["text", "pairs", "chats", "chat pairs"]
)
@pytest.mark.parametrize("starts", [False, True])
def test_tokens_and_labels_are_those_of_trls_own_preparation(
    rows: list[dict[str, Any]], starts: bool, tokenizer: Path, tmp_path: Path
) -> None:
    """starts: the tokenizer puts a token before every text, as Llama's does: a chat template must not get it twice."""
    made = AutoTokenizer.from_pretrained(str(tokenizer))
    made.chat_template = MARKED
    if starts:
        number = made.convert_tokens_to_ids("<pad>")
        made.backend_tokenizer.post_processor = TemplateProcessing("<pad> $A", None, [("<pad>", number)])
    made.save_pretrained(tmp_path / "tokenizer")
    data = write_rows(tmp_path / "rows.jsonl", rows)
    assistant = "messages" in rows[0]
    found = ours(a_spec(data, tmp_path / "tokenizer"), tmp_path / "data")
    assert found == trls(rows, tmp_path / "tokenizer", tmp_path / "trl", assistant_only_loss=assistant)
    if assistant:
        every = ours(a_spec(data, tmp_path / "tokenizer", loss_on="all"), tmp_path / "all")
        assert every == trls(rows, tmp_path / "tokenizer", tmp_path / "trl")
        assert every != found
    elif "completion" in rows[0]:
        every = ours(a_spec(data, tmp_path / "tokenizer", loss_on="all"), tmp_path / "all")
        assert every == trls(rows, tmp_path / "tokenizer", tmp_path / "trl", completion_only_loss=False)
        assert every != found


TOOLS = [
    {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
]


@pytest.mark.parametrize("template", [llama3_chat_template, qwen2_5_chat_template, qwen3_chat_template])
def test_templates_that_trl_has_a_training_version_of(template: str, tokenizer: Path, tmp_path: Path) -> None:
    folder = with_template(tokenizer, tmp_path / "tokenizer", template)
    data = write_rows(tmp_path / "rows.jsonl", CHATS)
    spec = a_spec(data, folder, sequence_length=512)
    found = ours(spec, tmp_path / "data")
    assert [said(spec, *row).count("The number after") for row in found] == [1 + i % 2 for i in range(24)]
    assert not any("What comes" in said(spec, *row) for row in found)


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, CHATML])
def test_a_template_without_markers_is_marked_by_prefixes(
    template: str, tokenizer: Path, tmp_path: Path
) -> None:
    made = AutoTokenizer.from_pretrained(str(tokenizer))
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.chat_template = template
    made.save_pretrained(tmp_path / "tokenizer")
    data = write_rows(tmp_path / "rows.jsonl", CHATS)
    spec = a_spec(data, tmp_path / "tokenizer", sequence_length=256)
    ends = "<|im_end|>" if template == CHATML else "<eos>"
    assert marking_of(made).by == "prefixes"
    for i, row in enumerate(ours(spec, tmp_path / "data")):
        assert said(spec, *row) == "".join(answer(k) + ends for k in (i, i + 1)[: 1 + i % 2])
    assert scan(spec, []).warnings == ()


def test_a_template_that_can_mark_nothing_learns_from_all_and_says_so(
    tokenizer: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = with_template(tokenizer, tmp_path / "tokenizer", FORGETFUL)
    data = write_rows(tmp_path / "rows.jsonl", CHATS)
    found = ours(a_spec(data, folder), tmp_path / "data")
    assert found == ours(a_spec(data, folder, loss_on="all"), tmp_path / "all")
    (warning,) = scan(a_spec(data, folder), []).warnings
    assert (
        warning.startswith("The loss covers every turn, the user's too: ") and "data.loss_on: all" in warning
    )
    assert warning in [record.getMessage() for record in caplog.records]
    assert scan(a_spec(data, folder, loss_on="all"), []).warnings == ()
    for asks in (
        lambda: scan(a_spec(data, folder, loss_on="assistant"), []),
        lambda: ours(a_spec(data, folder, loss_on="assistant"), tmp_path / "no"),
    ):
        with pytest.raises(SpecError, match=r"data\.loss_on is assistant, but .*{% generation %}"):
            asks()


def test_markers_that_leave_out_the_end_of_a_turn_are_told(tokenizer: Path, tmp_path: Path) -> None:
    endless = MARKED.replace("{{ eos_token }}{% endgeneration %}", "{% endgeneration %}{{ eos_token }}")
    assert endless != MARKED
    data = write_rows(tmp_path / "rows.jsonl", CHATS)
    for template, told in ((endless, 1), (MARKED, 0)):
        folder = with_template(tokenizer, tmp_path / f"tokenizer-{told}", template)
        assert sum("will not learn to stop" in w for w in scan(a_spec(data, folder), []).warnings) == told


def test_rows_without_a_word_to_learn_are_left_out_and_counted(
    tokenizer: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A conversation without the assistant, one whose answer is cut off, a text of one token."""
    folder = with_template(tokenizer, tmp_path / "tokenizer", MARKED)
    rows = [*CHATS[:3], {"messages": chat("alone")}, {"messages": chat("long " * 200, "cut off")}]
    for packing in (False, True):
        spec = a_spec(write_rows(tmp_path / "chats.jsonl", rows), folder, sequence_length=96, packing=packing)
        found = scan(spec, [])
        assert (found.count, found.dropped) == (3, 2)
        assert len(ours(spec, tmp_path / f"chats-{packing}")) == 3
    assert any(
        "2 of 5 rows are left out" in r.getMessage() and "line 4" in r.getMessage() for r in caplog.records
    )
    spec = a_spec(write_rows(tmp_path / "texts.jsonl", [{"text": ""}, *TEXTS[:3]]), folder)
    assert scan(spec, []).dropped == 1 and len(ours(spec, tmp_path / "texts")) == 3
    spec = a_spec(write_rows(tmp_path / "none.jsonl", rows[3:]), folder, sequence_length=96)
    with pytest.raises(SpecError, match="leaves nothing to train on: all 2 rows are left out"):
        ours(spec, tmp_path / "none")


def test_a_trainer_steps_on_the_assistants_words_alone(tokenizer: Path, tmp_path: Path) -> None:
    folder = with_template(tokenizer, tmp_path / "tokenizer", MARKED)
    data = write_rows(tmp_path / "rows.jsonl", CHATS)
    assignment = make_assignment(data, folder, training={"sequence_length": 128})
    trainer = build_trainer(assignment, tmp_path / "out")
    batch = next(iter(trainer.get_train_dataloader()))
    for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
        text = said(assignment.spec, ids, labels)
        assert "The number after" in text and "What comes" not in text and "<pad>" not in text
    done = trainer.train()
    assert done.metrics["train_loss"] > 0


def test_loss_on_is_for_messages_alone(tokenizer: Path, tmp_path: Path) -> None:
    for rows, loss_on in ((TEXTS, "all"), (PAIRS, "assistant"), (CHAT_PAIRS, "assistant")):
        spec = a_spec(write_rows(tmp_path / "rows.jsonl", rows), tokenizer, loss_on=loss_on)
        with pytest.raises(SpecError, match=r"data\.loss_on: only applies to rows with messages"):
            scan(spec, [])
        with pytest.raises(SpecError, match=r"data\.loss_on: only applies to rows with messages"):
            ours(spec, tmp_path / "data")
        (fault,) = check_inputs(spec)
        assert (fault.path, fault.given) == ("data.loss_on", loss_on) and "leave it out" in fault.fix


@pytest.mark.parametrize("column", ["text", "prompt"])
def test_a_doubled_bos_is_told(column: str, tokenizer: Path, tmp_path: Path) -> None:
    adds(tokenizer, tmp_path / "tokenizer", before="<pad>", bos_token="<pad>")
    rows = [{column: f"{'<pad>' if i % 4 == 2 else ''}word {i}", "completion": "a"} for i in range(12)]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    (warning,) = scan(a_spec(data, tmp_path / "tokenizer"), []).warnings
    assert warning.startswith(
        "3 of 12 rows begin with <pad> (first: line 3), and another <pad> is put before them"
    )
    assert scan(a_spec(data, tokenizer), []).warnings == ()
    chats = write_rows(tmp_path / "chats.jsonl", CHATS)
    assert scan(a_spec(chats, tmp_path / "tokenizer"), []).warnings == ()


@pytest.mark.parametrize("column", ["text", "prompt"])
def test_a_doubled_eos_is_told_and_is_what_trl_trains_on(
    column: str, tokenizer: Path, tmp_path: Path
) -> None:
    """The end is put there by the trainer, the data or neither, and then by the tokenizer once more."""
    folder = adds(tokenizer, tmp_path / "tokenizer", after="<eos>")
    text = [f"word {i}{'<eos>' if i % 4 == 2 else ''}" for i in range(12)]
    rows = [{"text": one} if column == "text" else {"prompt": "a", "completion": one} for one in text]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    found = ours(a_spec(data, folder), tmp_path / "data")
    assert found == trls(rows, folder, tmp_path / "trl")
    assert all(ids[-2:] == [0, 0] for ids, _ in found)
    (warning,) = scan(a_spec(data, folder), []).warnings
    assert warning.startswith("12 of 12 rows end in <eos> twice (first: line 1): the trainer puts one there")
    assert scan(a_spec(data, tokenizer), []).warnings == ()
    chats = write_rows(tmp_path / "chats.jsonl", CHATS)
    made = with_template(folder, tmp_path / "chat", CHAT_TEMPLATE)
    assert scan(a_spec(chats, made), []).warnings == ()


def test_white_space_is_learned_from_whatever_offsets_the_tokenizer_tells(
    tokenizer: Path, tmp_path: Path
) -> None:
    """Tokens of white space alone have no width where offsets are trimmed, as RoBERTa's are."""
    said_so = [" a\n\n  b \n", "\n", "c  ", "\t\td"]
    rows = [{"messages": chat("x \n", one, " y ", "z")} for one in said_so]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    made = AutoTokenizer.from_pretrained(with_template(tokenizer, tmp_path / "wide", MARKED))
    made.backend_tokenizer.post_processor = ByteLevel(trim_offsets=True)
    made.save_pretrained(tmp_path / "trimmed")
    wide = ours(a_spec(data, tmp_path / "wide", sequence_length=256), tmp_path / "data")
    spec = a_spec(data, tmp_path / "trimmed", sequence_length=256)
    assert ours(spec, tmp_path / "again") == wide
    assert [said(spec, *row) for row in wide] == [f"{one}<eos>z<eos>" for one in said_so]


def test_a_prompt_that_is_another_before_its_completion_is_told(tokenizer: Path, tmp_path: Path) -> None:
    """As Mistral's, which writes the system's words before the last turn alone, where a user says that."""
    last = CHAT_TEMPLATE.replace("{{ m.content }}", "{{ 'Now: ' if loop.last }}{{ m.content }}")
    prompting = CHAT_TEMPLATE.replace("<|assistant|>{% endif %}", "<|assistant|><think>{% endif %}")
    data = write_rows(tmp_path / "rows.jsonl", CHAT_PAIRS)
    for name, template, told in (("last", last, 1), ("prompting", prompting, 0), ("plain", CHAT_TEMPLATE, 0)):
        folder = with_template(tokenizer, tmp_path / name, template)
        warnings = scan(a_spec(data, folder), []).warnings
        assert len(warnings) == told
        assert not told or warnings[0].startswith(
            "24 of 24 rows have a prompt that the chat template renders differently when the completion follows"
        )


def test_characters_that_the_tokenizer_does_not_know_are_told(tokenizer: Path, tmp_path: Path) -> None:
    words = Tokenizer(WordLevel({"<unk>": 0, "<eos>": 1, "<pad>": 2, "one": 3}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", eos_token="<eos>", pad_token="<pad>"
    )
    made.save_pretrained(tmp_path / "words")
    data = write_rows(tmp_path / "rows.jsonl", [{"text": "one"}, {"text": "one two"}, {"text": "two"}])
    (warning,) = scan(a_spec(data, tmp_path / "words"), []).warnings
    assert warning == "2 of 3 rows have characters that the tokenizer knows only as <unk> (first: line 2)."


def test_what_is_looked_for_belongs_to_the_format_of_what_is_kept() -> None:
    """A new note raises FORMAT and stands here: else data that was counted before is never looked at for it."""
    noted = {"doubled_bos", "doubled_eos", "unsaid", "prompt_changes", "unknown", "tools_ignored"}
    assert (FORMAT, {field.name for field in fields(Notes)} - {"seen"}) == (2, noted)
