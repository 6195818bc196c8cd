"""What each optimizer keeps, held against the state that the trainer's own one makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from trl import SFTTrainer

from jobs.jobfile.fields import BITSANDBYTES_OPTIMIZERS, OPTIMIZERS
from tests.workers.builders import TINY, make_assignment
from workers.profiler.optimizer_state import (
    BLOCK_BYTES,
    embedding_weights,
    paged,
    state_bytes,
    transient_bytes,
)
from workers.trainer.train import build_trainer

SHARED = ("qmap1", "qmap2")  # lookup tables of 1 KiB, one for all parameters


def stepped(trainer: SFTTrainer) -> torch.optim.Optimizer:
    """The trainer's optimizer after one update with gradients of ones."""
    optimizer = trainer.create_optimizer()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


def rounded(tensor: torch.Tensor) -> int:
    return -(-tensor.nbytes // BLOCK_BYTES) * BLOCK_BYTES


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_is_what_the_trainers_optimizer_keeps(
    name: str, dtype: str, tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    if name in BITSANDBYTES_OPTIMIZERS:
        pytest.importorskip("bitsandbytes")
    model: dict[str, Any] = {"dtype": dtype, "config": {**TINY, "hidden_size": 64, "intermediate_size": 200}}
    assignment = make_assignment(rows, tokenizer, model=model, training={"optimizer": name})
    trainer = build_trainer(assignment, tmp_path)
    optimizer = stepped(trainer)
    embeddings = embedding_weights(trainer.model)
    sizes = set()
    for label, parameter in trainer.model.named_parameters():
        state = optimizer.state.get(parameter, {})
        kept = [rounded(t) for key, t in state.items() if isinstance(t, torch.Tensor) and key not in SHARED]
        assert state_bytes(assignment.spec, parameter, id(parameter) in embeddings) == sum(kept), label
        sizes.add(parameter.numel() < 4096)
    assert sizes == {True, False}, "small and large parameters are among them"


def test_transients_and_pages(rows: Path, tokenizer: Path) -> None:
    def spec(**training: Any) -> Any:
        return make_assignment(rows, tokenizer, training=training).spec

    assert transient_bytes(spec(optimizer="adamw"), 1000) == 0
    assert transient_bytes(spec(optimizer="sgd"), 1000) == 0
    assert transient_bytes(spec(optimizer="sgd", weight_decay=0.1), 1000) == 1000
    assert paged(spec(optimizer="paged_adamw_8bit")) and not paged(spec(optimizer="adamw_8bit"))
