"""tuneyard.fit on a CPU card: the rung, the configuration, why, and what does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import DatasetDict
from peft import LoraConfig

from jobs.errors import DoesNotFit, SpecError, UsageError
from jobs.units import MiB
from tests.workers.builders import prompt_rows, write_rows
from tests.workers.fit.scripts import fit, rows, small

WIDE = {"hidden_size": 256, "intermediate_size": 688, "max_position_embeddings": 4096}


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path_factory.getbasetemp() / "fit-home"))


def test_a_roomy_card_needs_no_checkpointing(tmp_path: Path, tokenizer: Path) -> None:
    fitted = fit(tmp_path, tokenizer)
    made = fitted.config
    assert fitted.rung.every_n == 0 and not made.activation_checkpointing and not made.gradient_checkpointing
    assert made.per_device_train_batch_size * made.gradient_accumulation_steps == 8
    assert fitted.changes["activation_checkpointing"] == (True, False)
    assert fitted.projection.upper_bytes <= 1024 * MiB and fitted.choice.slowdown == 0


def test_what_was_given_stays_as_it_was(tmp_path: Path, tokenizer: Path) -> None:
    import tuneyard
    from tests.workers.fit.scripts import config, tokenizer_in

    given = config(tmp_path)
    before = {**vars(given)}
    made = tuneyard.fit(
        given, small(), rows(), processing_class=tokenizer_in(tokenizer), card="cpu:1GiB", quiet=True
    ).config
    assert vars(given) == before and made.learning_rate == given.learning_rate and made is not given


def test_a_tight_card_is_checkpointed_as_far_as_it_takes(tmp_path: Path, tokenizer: Path) -> None:
    """One row a step leaves nothing but checkpointing."""
    how = {"per_device_train_batch_size": 1, "max_length": 2048}
    roomy = fit(tmp_path, tokenizer, model=small(**WIDE), data=None, card="cpu:4GiB", **how)
    off = next(one for one in roomy.choice.tried if one.rung.every_n == 0).projection.upper_bytes
    tight = fit(tmp_path, tokenizer, model=small(**WIDE), data=None, card=f"cpu:{off - 1}B", **how)
    assert roomy.rung.every_n == 0 and tight.rung.every_n > 0
    kwargs = {"every_n_layers": tight.rung.every_n, "use_reentrant": False, "offload": False}
    assert tight.config.activation_checkpointing_kwargs == kwargs
    assert "no data was given" in str(tight)


def test_a_card_that_is_too_small_is_said_with_what_would_help(tmp_path: Path, tokenizer: Path) -> None:
    with pytest.raises(DoesNotFit) as raised:
        fit(tmp_path, tokenizer, model=small(**WIDE), data=None, card="cpu:100MiB", max_length=2048)
    told = str(raised.value)
    assert told.startswith("needs at least ") and "the card has 100 MiB" in told
    assert "a CPU card of " in told and "training." not in told, "nothing of a job file"


def test_a_card_of_the_catalogue_is_planned_for(tmp_path: Path, tokenizer: Path) -> None:
    lora = LoraConfig(r=4, target_modules="all-linear")
    fitted = fit(tmp_path, tokenizer, card="rtx4090", peft_config=lora)
    assert "GeForce RTX 4090: 23.64 GiB" in str(fitted) and "LoRA of rank 4" in str(fitted)
    assert "expandable_segments:True" in str(fitted), "segments are fixed where the script says nothing"
    with pytest.raises(UsageError, match="asked for a GeForce RTX 4090"):
        fitted.guard(_trainer_of(fitted.config))


def _trainer_of(config: object) -> object:
    return type("Trainer", (), {"args": config})()


def test_without_a_card_a_cpu_process_has_none(tmp_path: Path, tokenizer: Path) -> None:
    with pytest.raises(UsageError, match="name a card: card='rtx4090' of the catalogue, or card='cpu:4GiB'"):
        fit(tmp_path, tokenizer, card=None)


def test_the_report_fits_80_columns(tmp_path: Path, tokenizer: Path) -> None:
    text = str(fit(tmp_path, tokenizer, eval_strategy="steps"))
    assert max(map(len, text.splitlines())) <= 80
    for word in (
        "card ",
        "chosen ",
        "memory ",
        "costs ",
        "changed ",
        "CHECKPOINTING",
        "  yours",
        "compute_metrics",
    ):
        assert word in text


def test_evaluation_has_rows_that_fit_too(tmp_path: Path, tokenizer: Path) -> None:
    fitted = fit(tmp_path, tokenizer, eval_strategy="steps", per_device_eval_batch_size=64)
    assert fitted.config.per_device_eval_batch_size == fitted.rung.micro_batch


def test_rows_are_counted_from_a_file_too(tmp_path: Path, tokenizer: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", prompt_rows(10))
    lengths = fit(tmp_path, tokenizer, data=path).lengths
    assert lengths is not None and lengths.rows == 10 and lengths.longest < 128


def test_tokens_are_counted_as_they_are(tmp_path: Path, tokenizer: Path) -> None:
    from datasets import Dataset

    data = Dataset.from_list([{"input_ids": [1] * size} for size in (5, 40, 500)])
    lengths = fit(tmp_path, tokenizer, data=data).lengths
    assert lengths is not None and (lengths.rows, lengths.longest, lengths.longest_row) == (3, 128, 500)
    assert lengths.truncated == 1


def test_rows_of_another_shape_are_taken_at_their_longest(tmp_path: Path, tokenizer: Path) -> None:
    from datasets import Dataset

    fitted = fit(tmp_path, tokenizer, data=Dataset.from_list([{"question": "a", "answer": "b"}]))
    assert fitted.lengths is None and "were not counted" in str(fitted)


def test_data_with_splits_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    with pytest.raises(UsageError, match=r"give the one that is trained on, such as data\['train'\]"):
        fit(tmp_path, tokenizer, data=DatasetDict({"train": rows(4)}))


def test_rows_longer_than_the_model_are_refused(tmp_path: Path, tokenizer: Path) -> None:
    with pytest.raises(SpecError, match="is longer than the model's 256 positions"):
        fit(tmp_path, tokenizer, max_length=1000)


def test_a_trace_is_kept(tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path / "home"))
    fit(tmp_path, tokenizer)
    (kept,) = (tmp_path / "home" / "traces").iterdir()
    assert json.loads(kept.read_text())["layers"] == 4
    made = kept.stat().st_mtime_ns
    fit(tmp_path, tokenizer)
    assert kept.stat().st_mtime_ns == made
