"""A trained model's way to its result folder, and room for that and for checkpoints, looked at before training."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import Trainer

from jobs.messages.reports import Assignment
from workers.checkpoints import disk_space
from workers.checkpoints.folders import listed
from workers.checkpoints.manifest import size_of
from workers.trainer.callbacks import Figures
from workers.trainer.saving.artifacts import from_checkpoint, from_model, publish_result, result_files


def check_room(assignment: Assignment, target: Path, checkpoints: Path) -> None:
    """Raises NoStorage where this host has no room for what the job will write. Sizes are the projected ones.

    One checkpoint more than are kept: the oldest goes once the newest is there.
    """
    training = assignment.spec.training
    most = training.keep_checkpoints + 1 + training.keep_best
    count = min(most, training.steps or most)
    there = sum(size_of(path) or 0 for path, _ in listed(checkpoints))
    one = assignment.checkpoint_bytes
    needed = max(one, one * count - there)
    held = "a checkpoint" if count == 1 else f"{count} checkpoints"
    needs = [
        disk_space.Need(checkpoints, needed, held),
        disk_space.Need(target.parent, assignment.result_bytes, "the result", beside=checkpoints),
    ]
    if short := disk_space.shortage(needs):
        raise disk_space.NoStorage(f"not begun: {short}")


def publish(
    trained: Trainer | Path, target: Path, assignment: Assignment, figures: Figures, fleet: str
) -> Path:
    """Publish a result; returns its folder. Raises NoStorage where the folder takes none.

    trained: the checkpoint of the last step, or the trainer that did it, where no disk took a checkpoint; fleet: see
    workers.trainer.saving.artifacts.clear_unfinished.
    """
    if isinstance(trained, Path):
        fill, size = from_checkpoint(trained), sum(result_files(trained).values())
    else:
        fill, size = from_model(trained.model, trained.processing_class), assignment.result_bytes
    return publish_result(fill, target, assignment, _facts(figures, assignment), fleet, size)


def _facts(figures: Figures, assignment: Assignment) -> dict[str, Any]:
    return {
        "rung": assignment.rung.label,
        "steps": figures.steps,
        "first_loss": figures.first_loss,
        "final_loss": figures.last_loss,
        "created": time.time(),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
    }
