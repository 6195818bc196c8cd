"""The best checkpoint by the loss of the rows held out, and an end once that loss stands still.

Both follow from the evaluations in the trainer's state, which checkpoints hold: an attempt that goes on from one
decides as the first would have.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerControl, TrainerState

from jobs.identity import Owner, fault_of
from jobs.jobfile.sections.training import EarlyStopping, TrainingSpec
from jobs.units import counted
from workers.checkpoints.folders import name_of
from workers.checkpoints.manifest import Corrupt, verify

log = logging.getLogger(__name__)

Evaluations = Sequence[tuple[int, float]]  # step and loss, in order
TRAINER_STATE = "trainer_state.json"  # of transformers


class Best:
    """Decides at each evaluation, on all ranks alike. step: of the best so far; note: what to say of the result."""

    def __init__(self, training: TrainingSpec) -> None:
        self._training = training
        self.step: int | None = None
        self.note = ""

    def judge(self, state: TrainerState, control: TrainerControl) -> None:
        """Has the trainer save the best so far, and end where the loss stands still."""
        found = evaluations(state.log_history)
        if self._training.keep_best:
            self.step = best_of(found)
            control.should_save = control.should_save or self.step == state.global_step
        early = self._training.early_stopping
        if early is not None and stands_still(found, early):
            times = counted(early.patience, "evaluation")
            self.note = f"stopped early: no better loss on the rows held out in {times}"
            log.info("step %d: %s", state.global_step, self.note)
            control.should_training_stop = True

    def ended(self, checkpoint: Path) -> bool:
        """Whether training was ended early at a checkpoint."""
        early = self._training.early_stopping
        return early is not None and stands_still(_kept(checkpoint), early)

    def result(self, root: Path, owner: Owner, last: Path | None) -> Path | None:
        """The checkpoint that the result is made from: the best of those that are here, else `last`.

        Evaluations are those that `last` has. Sets the note, which says so where the best of all is on no disk here.
        """
        found = _kept(last) if last is not None and self._training.keep_best else []
        wanted = best_of(found)
        if last is None or wanted is None:
            return last
        for step, loss in sorted(found, key=lambda one: (one[1], one[0])):
            path = root / name_of(step)
            if math.isfinite(loss) and _is_good(path, owner):
                self._note(f"the result is of step {step}, with a loss of {loss:.4f} on the rows held out")
                if step != wanted:
                    self._note(f"the better one of step {wanted} is not on this host")
                return path
        self._note(
            f"the best checkpoint, of step {wanted}, is not on this host: the result is of the last step"
        )
        return last

    def _note(self, text: str) -> None:
        self.note = f"{self.note}; {text}" if self.note else text


def evaluations(history: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """Of what a trainer has logged."""
    return [(int(one["step"]), float(one["eval_loss"])) for one in history if "eval_loss" in one]


def best_of(found: Evaluations) -> int | None:
    """The step of the lowest loss, the first of equal ones; None where no loss is finite."""
    finite = [(loss, step) for step, loss in found if math.isfinite(loss)]
    return min(finite)[1] if finite else None


def stands_still(found: Evaluations, early: EarlyStopping) -> bool:
    """Whether the last `patience` evaluations were none better by more than the threshold than the best before."""
    best, since = math.inf, 0
    for _, loss in found:
        if loss < best - early.threshold:
            best, since = loss, 0
        else:
            since += 1
    return since >= early.patience


def _kept(checkpoint: Path) -> list[tuple[int, float]]:
    return evaluations(TrainerState.load_from_json(str(checkpoint / TRAINER_STATE)).log_history)


def _is_good(path: Path, owner: Owner) -> bool:
    try:
        return path.is_dir() and not fault_of(verify(path), owner)
    except Corrupt:
        return False
