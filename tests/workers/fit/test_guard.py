"""Steps down the ladder in a real TRL training on a CPU card."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import SFTTrainer

from jobs.cards import card_for
from jobs.errors import DoesNotFit, UsageError
from jobs.memory.rung import Rung
from jobs.units import MiB
from tests.workers.fit.scripts import config, fit, on, rows, small, tokenizer_in
from workers.fit.card import Here
from workers.fit.fitted import Fitted
from workers.fit.guard import Guard, lower
from workers.fit.room import CpuRoom

WIDE = {"hidden_size": 128, "intermediate_size": 344}


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path_factory.getbasetemp() / "fit-home"))
    yield


class Short(SFTTrainer):
    """Memory runs out in its backward pass, after the gradients are there, for as long as `until` says."""

    until: Any = staticmethod(lambda trainer: False)
    micro_batches = 0

    def training_step(self, model: Any, inputs: Any, *rest: Any, **how: Any) -> torch.Tensor:
        self.micro_batches += 1
        self.rows = len(inputs["input_ids"])
        loss: torch.Tensor = super().training_step(model, inputs, *rest, **how)
        if self.until(self):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return loss


def trained(fitted: Fitted, tokenizer: Path, until: Any = None, model: Any = None, **how: Any) -> Short:
    torch.manual_seed(3)
    trainer = Short(
        model or small(**WIDE),
        fitted.config,
        train_dataset=rows(),
        processing_class=tokenizer_in(tokenizer),
        **how,
    )
    if until is not None:
        trainer.until = until
    fitted.guard(trainer)
    trainer.train()
    return trainer


def weights(trainer: Any) -> torch.Tensor:
    return torch.cat([one.detach().flatten() for one in trainer.model.parameters()])


def test_memory_that_ran_out_costs_one_step_and_nothing_else(tmp_path: Path, tokenizer: Path) -> None:
    """Of the third micro-batch of the first step: what two had added up is trained again."""
    fitted = fit(tmp_path, tokenizer, model=small(**WIDE))
    plain = trained(on(fitted, Rung(0, 2, 4)), tokenizer)
    short = on(fitted, Rung(0, 2, 4))
    again = trained(short, tokenizer, until=lambda trainer: trainer.micro_batches == 3)
    assert [(one.step, one.before.label) for one in short.events] == [(1, "off, 2×4")]
    assert "Tried to allocate" in short.events[0].why or "tried to allocate" in short.events[0].why
    assert again.state.global_step == 2
    torch.testing.assert_close(weights(again), weights(plain), rtol=1e-4, atol=1e-5)
    losses = [[line["loss"] for line in one.state.log_history if "loss" in line] for one in (plain, again)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    counted = [one.state.log_history[-1]["num_tokens"] for one in (plain, again)]
    assert counted[0] == counted[1], "tokens that were trained on twice count once"


def test_a_micro_batch_in_parts_has_the_same_gradients(tmp_path: Path, tokenizer: Path) -> None:
    """Of plain SGD: what Adam does with a gradient near zero is decided by rounding."""
    fitted = fit(tmp_path, tokenizer, model=small(**WIDE), optim="sgd", learning_rate=0.5)
    plain = trained(on(fitted, Rung(0, 8, 1)), tokenizer)
    short = on(fitted, Rung(0, 8, 1))
    parts = trained(short, tokenizer, until=lambda trainer: trainer.rows > 1)
    assert parts.rows == 1 and short.events[-1].after.micro_batch == 1
    torch.testing.assert_close(weights(parts), weights(plain), rtol=1e-4, atol=1e-5)


def test_rows_that_are_packed_flat_are_not_parted(tmp_path: Path, tokenizer: Path) -> None:
    fitted = on(fit(tmp_path, tokenizer, model=small(**WIDE), packing=True), Rung(0, 2, 4))
    trained(fitted, tokenizer, until=lambda trainer: trainer.micro_batches == 1)
    (event,) = fitted.events
    assert event.after.micro_batch == 2 and event.after.every_n > 0
    assert fitted.config.activation_checkpointing_kwargs["every_n_layers"] == event.after.every_n


def test_the_lowest_rung_says_so(tmp_path: Path, tokenizer: Path) -> None:
    fitted = fit(tmp_path, tokenizer, model=small(**WIDE))
    with pytest.raises(
        DoesNotFit, match=r"memory ran out on every layer, 1×8, and no rung below it takes less: "
    ):
        trained(fitted, tokenizer, until=lambda trainer: True)
    assert fitted.events


def test_another_error_is_nobodys_memory(tmp_path: Path, tokenizer: Path) -> None:
    def fails(trainer: Any) -> bool:
        raise ValueError("of the script")

    fitted = fit(tmp_path, tokenizer)
    with pytest.raises(ValueError, match="of the script"):
        trained(fitted, tokenizer, until=fails, model=small())
    assert not fitted.events


def test_a_trainer_of_another_configuration_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    fitted = on(fit(tmp_path, tokenizer), Rung(0, 2, 4))
    trainer = SFTTrainer(
        small(), config(tmp_path), train_dataset=rows(), processing_class=tokenizer_in(tokenizer)
    )
    with pytest.raises(UsageError, match=r"=8, and fit chose 2: give it args=fitted\.config"):
        fitted.guard(trainer)


def test_memory_near_the_limit_steps_down_before_it_runs_out(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The callback alone: a micro-batch is left as it is."""
    fitted = on(fit(tmp_path, tokenizer), Rung(0, 2, 4))
    told = iter(["990 MiB of 1.00 GiB were in use", "", "", ""])
    monkeypatch.setattr(CpuRoom, "near", lambda room: next(told))
    trainer = SFTTrainer(
        small(),
        fitted.config,
        train_dataset=rows(),
        processing_class=tokenizer_in(tokenizer),
        callbacks=[fitted.callback],
    )
    trainer.train()
    (event,) = fitted.events
    assert event.step == 1 and event.after.every_n > 0 and event.after.micro_batch == 2
    assert trainer.model.is_activation_checkpointing


def test_a_cpu_card_is_a_real_limit(tmp_path: Path, tokenizer: Path) -> None:
    """Memory of the operating system that runs out: the training comes to its end on a lower rung."""
    wide = {"hidden_size": 256, "intermediate_size": 2048, "max_position_embeddings": 2048}
    model = small(**wide)
    how = {"per_device_train_batch_size": 16, "max_length": 512, "max_steps": 1}
    fitted = fit(tmp_path, tokenizer, model=model, data=None, card="cpu:4GiB", **how)
    fitted = on(fitted, Rung(0, 16, 1))
    needs = next(one for one in fitted.choice.tried if one.rung == fitted.rung).projection.device_bytes
    small_card = Here(card_for("cpu", "cpu", needs // 2), 0, live=True)
    fitted.__dict__["callback"] = Guard(small_card, fitted.choice.tried, fitted.rung, needs)
    trainer = SFTTrainer(
        model, fitted.config, train_dataset=_long_rows(), processing_class=tokenizer_in(tokenizer)
    )
    fitted.guard(trainer)
    trainer.train()
    assert fitted.events and "can't allocate memory" in fitted.events[0].why
    assert trainer.state.global_step == 1 and needs > 300 * MiB


def _long_rows() -> Any:
    from datasets import Dataset

    return Dataset.from_list([{"text": "What comes after 7? " * 60} for _ in range(16)])


def test_the_next_rung_is_the_fastest_that_takes_less(tmp_path: Path, tokenizer: Path) -> None:
    tried = fit(tmp_path, tokenizer, model=small(**WIDE)).choice.tried
    peaks = {one.rung: one.projection.allocated_bytes for one in tried}
    now = Rung(0, 4, 2)
    after = lower(tried, now, 4, same_rows=False)
    assert after is not None and peaks[after] < peaks[now] and after.micro_batch <= 4
    flat = lower(tried, now, 4, same_rows=True)
    assert flat is not None and flat.micro_batch == 4 and flat.every_n
