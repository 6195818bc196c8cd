"""Steps down the ladder before memory runs out, and when it did: a callback, and a Trainer's training step.

accelerate's find_executable_batch_size starts the training function again with a batch that is a tenth smaller. This
goes on in the same step: its gradients are dropped, the rung is applied, and its micro-batches are trained again from
the same random state. The global batch, the data and their order stay.
"""

from __future__ import annotations

import gc
import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from jobs.errors import DoesNotFit, UsageError, words_of
from jobs.memory.ladder import Tried
from jobs.memory.rung import Rung
from workers.fit.card import Here
from workers.fit.room import Room, room_on
from workers.fit.splitting import divisible, parts_of, rows_of
from workers.trainer.faults.failing import only_host_memory, ran_out_of_memory, what_ran_out

log = logging.getLogger("tuneyard.fit")

LOWER = 0.97  # of the live peak: a rung that takes hardly less helps nobody


@dataclass(frozen=True)
class StepDown:
    """One step down the ladder: in which optimizer step, from 1, and why."""

    step: int
    before: Rung
    after: Rung
    why: str


def lower(tried: Sequence[Tried], now: Rung, most_rows: int, same_rows: bool) -> Rung | None:
    """The fastest rung with a lower live peak; None where there is none.

    most_rows: of a micro-batch as the data loader makes it; same_rows: it can't be trained in parts.
    """
    peaks = {one.rung: one.projection.allocated_bytes for one in tried}
    for one in tried:
        if one.rung.micro_batch > most_rows or (same_rows and one.rung.micro_batch != now.micro_batch):
            continue
        if peaks[one.rung] <= LOWER * peaks[now]:
            return one.rung
    return None


def checkpoint(model: Any, args: Any, rung: Rung) -> None:
    """Switch activation checkpointing of a model in training to a rung's, and say so in the trainer's arguments."""
    settings = checkpointing(rung)
    kwargs = settings["activation_checkpointing_kwargs"]
    if kwargs is None:
        model.activation_checkpointing_disable()
    else:
        ways = {"every_n_layers": kwargs["every_n_layers"], "offload": kwargs["offload"]}
        model.activation_checkpointing_enable({"use_reentrant": kwargs["use_reentrant"]}, **ways)
    for name, value in settings.items():
        setattr(args, name, value)


def checkpointing(rung: Rung) -> dict[str, Any]:
    """Fields of a trainer's configuration. The deprecated names mirror the new ones (transformers 5.23)."""
    kwargs = (
        {"every_n_layers": rung.every_n, "use_reentrant": False, "offload": rung.offload}
        if rung.every_n
        else None
    )
    return {
        "activation_checkpointing": bool(rung.every_n),
        "activation_checkpointing_kwargs": kwargs,
        "gradient_checkpointing": bool(rung.every_n),
        "gradient_checkpointing_kwargs": kwargs,
    }


@dataclass
class _Step:
    """The optimizer step that is on its way: its micro-batches so far, and how it began."""

    inputs: list[dict[str, Any]] = field(default_factory=list)
    tokens: Any = None  # of the whole step, that are learned from
    random: list[torch.Tensor] = field(default_factory=list)
    counted: _Counted | None = None


class _Counted:
    """What TRL has counted of a training so far (trl 1.16, SFTTrainer.compute_loss): tokens, and lists of metrics."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._tokens = getattr(trainer, "_total_train_tokens", None)
        self._lengths = {name: len(values) for name, values in self._metrics().items()}

    def restore(self) -> None:
        if self._tokens is not None:
            self._trainer._total_train_tokens = self._tokens
        for name, values in self._metrics().items():
            del values[self._lengths.get(name, 0) :]

    def _metrics(self) -> Any:
        return getattr(self._trainer, "_metrics", {}).get("train", {})


class Guard(TrainerCallback):
    """Watches a training's memory after each step, and its training step if it was attached to its trainer.

    tried: the ladder, fastest first. rung: the one that it is on; events: its steps down.
    """

    def __init__(self, here: Here, tried: Sequence[Tried], rung: Rung, upper_bytes: int) -> None:
        self.rung, self.events = rung, list[StepDown]()
        self._here, self._tried, self._upper = here, tried, upper_bytes
        self._loader_rows = rung.micro_batch
        self._step, self._same_rows = _Step(), True
        self._trainer: Any = None
        self._room: Room | None = None

    def attach(self, trainer: Any) -> None:
        """Have this trainer's training step guarded, too. Raises UsageError for one that has another configuration."""
        rows = trainer.args.per_device_train_batch_size
        if rows != self._loader_rows:
            raise UsageError(
                f"the trainer has per_device_train_batch_size={rows}, and fit chose {self._loader_rows}: give it "
                "args=fitted.config"
            )
        if not self._here.live:
            raise UsageError(
                f"fit was asked for a {self._here.card.name}, and this trainer runs on another card"
            )
        self._trainer, self._train = trainer, trainer.training_step
        trainer.training_step = self._training_step
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._here.live:
            self._room = room_on(self._here, kwargs["model"], self._upper)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._step = _Step()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._step = _Step()
        if self._room is None or not (why := self._room.near()):
            return
        self._room.forget()
        # Without the trainer there is nobody to train a micro-batch in parts.
        after = self._lower()
        if after is not None:
            self._go_down(kwargs["model"], args, after, state.global_step, why)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._close()

    def _training_step(
        self, model: Any, inputs: Mapping[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The trainer's own, again on a lower rung each time that memory runs out. Raises DoesNotFit on the lowest."""
        if not self._step.inputs:
            self._step.random, self._step.counted = _random_state(), _Counted(self._trainer)
        self._step.inputs.append(dict(inputs))
        self._step.tokens = num_items_in_batch
        self._same_rows = not divisible(self._trainer, inputs, num_items_in_batch)
        loss, why = self._tried_once(model, inputs)
        while loss is None:
            after = self._lower()
            if after is None:
                self._close()
                raise DoesNotFit(
                    f"memory ran out on {self.rung.label}, and no rung below it takes less: {why}; shorter rows "
                    "(max_length), LoRA, or a 4-bit base take less"
                )
            state = self._trainer.state
            self._go_down(self._trainer.model, self._trainer.args, after, state.global_step + 1, why)
            loss, why = self._again(model)
        return loss

    def _again(self, model: Any) -> tuple[torch.Tensor | None, str]:
        """All micro-batches of the step so far. Backward may have come through part of the layers: its gradients are
        of no use, nor are those that they were added to."""
        model.zero_grad(set_to_none=True)
        _set_random_state(self._step.random)
        if self._step.counted is not None:
            self._step.counted.restore()
        loss, why = None, ""
        for inputs in self._step.inputs:
            loss, why = self._tried_once(model, inputs)
            if loss is None:
                break
        return loss, why

    def _tried_once(self, model: Any, inputs: Mapping[str, Any]) -> tuple[torch.Tensor | None, str]:
        """The loss of one micro-batch; None, and what ran out."""
        try:
            losses = [
                self._train(model, part, self._step.tokens) for part in parts_of(inputs, self._rows(inputs))
            ]
            return torch.stack(losses).sum(), ""
        except Exception as error:  # of many types: ran_out_of_memory() knows them
            if not ran_out_of_memory(error) or only_host_memory(error):
                self._close()
                raise
            why = what_ran_out(error, words_of(error))
            # Its frames hold the tensors of the step; what they hold must go before the next try.
            traceback.clear_frames(error.__traceback__)
        gc.collect()
        if self._here.card.kind == "cuda":
            torch.cuda.empty_cache()
        return None, why

    def _rows(self, inputs: Mapping[str, Any]) -> int:
        return rows_of(inputs) if self._same_rows else self.rung.micro_batch

    def _lower(self) -> Rung | None:
        same = self._same_rows or self._trainer is None
        return lower(self._tried, self.rung, self._loader_rows, same)

    def _go_down(self, model: Any, args: Any, after: Rung, step: int, why: str) -> None:
        self.events.append(StepDown(step, self.rung, after, why))
        log.warning("step %d: %s; going on with %s in place of %s", step, why, after.label, self.rung.label)
        if (after.every_n, after.offload) != (self.rung.every_n, self.rung.offload):
            checkpoint(model, args, after)
        self.rung = after
        if self._room is not None:
            self._room.forget()

    def _close(self) -> None:
        if self._room is not None:
            self._room.close()
            self._room = None


def _random_state() -> list[torch.Tensor]:
    cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *cuda]


def _set_random_state(state: Sequence[torch.Tensor]) -> None:
    torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.cuda.set_rng_state(state[1])
