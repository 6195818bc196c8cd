"""The order of a rehearsal's rows, whose memory is whose by the stack that made it, and what `plan` says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workers.rehearsal.held import made_by
from workers.rehearsal.trainer import row_order


@pytest.mark.parametrize(
    ("micro_batch", "accumulation"), [(1, 1), (2, 1), (1, 2), (2, 4), (3, 3), (8, 2)], ids=str
)
def test_every_step_begins_with_the_longest_rows(micro_batch: int, accumulation: int) -> None:
    lengths = [5, 90, 7, 88, 3]
    order = row_order(lengths, micro_batch=micro_batch, accumulation=accumulation, steps=2, seed=1)
    step = micro_batch * accumulation
    assert len(order) == 2 * step and set(order) <= set(range(5))
    longest = [1, 3, 2, 0, 4, 1, 3, 2][:micro_batch]
    for begin in (0, step):
        assert order[begin : begin + micro_batch] == longest
        if accumulation > 2:
            assert order[begin + step - micro_batch : begin + step] == longest


def _frame(filename: str, name: str, line: int = 1) -> dict[str, Any]:
    return {"filename": filename, "name": name, "line": line}


def test_memory_is_told_apart_by_the_stack_that_made_it(tmp_path: Path) -> None:
    model = tmp_path / "transformers" / "models" / "modeling.py"
    model.parent.mkdir(parents=True)
    model.write_text("hidden = self.model(ids)\nlogits = self.lm_head(hidden)\nx = self.mlp(x)\n")
    linear = _frame("/torch/nn/modules/linear.py", "forward")
    layer, head = _frame(str(model), "forward", 3), _frame(str(model), "forward", 2)
    whole, loss = _frame(str(model), "forward", 1), _frame("/trl/trainer/sft_trainer.py", "compute_loss")
    checkpoint = _frame("/torch/utils/checkpoint.py", "unpack_hook")
    backward = _frame("/torch/autograd/graph.py", "backward")
    assert made_by([linear, layer, whole, loss]) == "activations"
    assert made_by([linear, layer, loss]) == "activations"
    assert made_by([linear, head, loss]) == "logits_and_loss"
    assert made_by([loss]) == "logits_and_loss"
    assert made_by([linear, layer, checkpoint, backward]) == "recomputed"
    assert made_by([backward]) == made_by([]) == "backward"
    assert made_by([_frame("/torch/optim/adamw.py", "_init_group"), loss]) == "optimizer"
    assert made_by([linear]) == "others"
