"""Runs a rehearsal in this process, which is in front of the CUDA double and ends afterwards."""

from __future__ import annotations

import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from jobs.errors import InputError, words_of
from workers.cuda_double import answers
from workers.model.build import check_method, trusts
from workers.rehearsal.held import Holders
from workers.rehearsal.messages import Answer, Ending, Request
from workers.rehearsal.trainer import LongestFirst
from workers.rehearsal.weights import unmade, without_weights
from workers.trainer.allocator import settle
from workers.trainer.faults.failing import ran_out_of_memory, what_ran_out
from workers.trainer.finite import Guard
from workers.trainer.longest_first import row_lengths
from workers.trainer.memory_meter import Meter
from workers.trainer.train import build_trainer


class _Followed(TrainerCallback):
    """Where the rehearsal is: for the words of an error."""

    def __init__(self, holders: Holders) -> None:
        self.steps = 0
        self.at = "while the model was put on the card"
        self._holders = holders
        self.trainer: Any = None

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._holders.begin(self.trainer)
        self.at = "in step 1"

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        self.at = f"in the update of step {self.steps + 1}"

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.steps += 1
        self.at = f"after step {self.steps}"

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.at = f"in step {self.steps + 1}"


def rehearse(request: Request, folder: Path) -> Answer:
    """Make the steps as a trainer would, and say what they took. folder: for what the trainer writes.

    Raises what the libraries raise, except memory that runs out and faults of the job.
    """
    assignment, notes = request.assignment, list[str]()
    meter = Meter(assignment.card)
    meter.allocator = settle(0)
    holders = Holders()
    followed = _Followed(holders)
    longest: int | None = None
    message, where = "", ""
    ending: Ending = "fits"
    try:
        spec, note = without_weights(assignment.spec)
        notes += [note] if note else []
        training = spec.training.model_copy(update={"steps": request.steps, "epochs": None})
        assignment = assignment.model_copy(update={"spec": spec.model_copy(update={"training": training})})
        check_method(assignment.spec, assignment.rung, use_cpu=False)
        trust = trusts(spec.model, assignment.trusted_models)
        guard = Guard(spec.training.on_nan == "skip", lag=True)
        with unmade() if spec.model.path is None else nullcontext():
            trainer = build_trainer(
                assignment, folder / "out", trust, [followed], folder / "data", guard, LongestFirst
            )
        trainer.fixed_segments = not meter.allocator.expandable
        followed.trainer = trainer
        longest = max(row_lengths(trainer.train_dataset))
        trainer.train()
        followed.at = "after the last step, where the weights are checked"
        trainer.fault_of_all()
    except Exception as error:  # whatever type: the libraries have several for memory that ran out
        if ran_out_of_memory(error):
            ending, message = "out_of_memory", what_ran_out(error, words_of(error))
            where = _within(error, followed)
        elif isinstance(error, InputError):
            ending, message = "bad_input", error.line
        else:
            traceback.print_exception(error)
            raise
    peaks = meter.read()
    return Answer(
        ending=ending,
        message=message,
        steps=followed.steps,
        longest=longest,
        allocated_bytes=peaks.allocated_bytes,
        reserved_bytes=peaks.reserved_bytes,
        device_bytes=peaks.device_bytes,
        total_bytes=torch.cuda.mem_get_info()[1],
        expandable=meter.expandable,
        where=where,
        held=holders.held if ending == "out_of_memory" else {},
        notes=[*notes, *answers.doubts()],
    )


def _within(error: Exception, followed: _Followed) -> str:
    """Where in its steps the trainer was, by the functions that the error came through."""
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    parts = {"evaluate": "evaluation", "backward": "backward pass", "compute_loss": "forward pass"}
    part = next((words for name, words in parts.items() if name in names), None)
    if part == "evaluation":
        return f"in the evaluation {followed.at}"
    return f"in the {part} of step {followed.steps + 1}" if part else followed.at
