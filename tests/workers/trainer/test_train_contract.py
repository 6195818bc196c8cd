"""What the installed TRL and transformers do with our settings: read from their source, held here.

transformers 5.23 renamed gradient_checkpointing to activation_checkpointing; the old name is an alias, and
TRL 1.16 still defaults the old one to True.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import SFTConfig, SFTTrainer

from jobs.memory.project import Rung
from tests.workers.builders import make_assignment
from workers.trainer.config import trl_config
from workers.trainer.train import build_trainer


def config_of(rung: Rung, tmp_path: Path, **sections: Any) -> SFTConfig:
    spec = make_assignment(tmp_path / "rows.jsonl", tmp_path, rung=rung, **sections).spec
    return trl_config(spec, rung, tmp_path, use_cpu=True)


@contextmanager
def calls_of_mlps(trainer: SFTTrainer) -> Iterator[Counter[str]]:
    """How often each layer's MLP runs; a checkpointed layer runs it a second time, in the backward."""
    calls: Counter[str] = Counter()
    hooks = []
    for name, module in trainer.model.named_modules():
        if name.endswith(".mlp"):
            layer = name.split("layers.")[1].split(".")[0]
            hooks.append(module.register_forward_pre_hook(lambda *_, layer=layer: calls.update([layer])))
    yield calls
    for hook in hooks:
        hook.remove()


def test_trl_turns_checkpointing_on_unless_told(tmp_path: Path) -> None:
    """Why trl_config always gives activation_checkpointing."""
    assert SFTConfig(str(tmp_path), use_cpu=True).activation_checkpointing is True
    off = SFTConfig(str(tmp_path), use_cpu=True, activation_checkpointing=False)
    assert (off.activation_checkpointing, off.gradient_checkpointing) == (False, False)


def test_the_rung_reaches_the_libraries(tmp_path: Path) -> None:
    off = config_of(Rung(0, 4, 1), tmp_path)
    assert (off.activation_checkpointing, off.gradient_checkpointing) == (False, False)
    assert (off.per_device_train_batch_size, off.gradient_accumulation_steps) == (4, 1)
    every_third = config_of(Rung(3, 1, 4, offload=True), tmp_path)
    assert every_third.activation_checkpointing and every_third.gradient_checkpointing
    wanted = {"every_n_layers": 3, "use_reentrant": False, "offload": True}
    assert every_third.activation_checkpointing_kwargs == wanted
    assert (every_third.per_device_train_batch_size, every_third.gradient_accumulation_steps) == (1, 4)
    assert every_third.activation_offloading is False


@pytest.mark.parametrize(("dtype", "bf16"), [("bfloat16", True), ("float32", False)])
def test_autocast_follows_the_dtype(dtype: str, bf16: bool, tmp_path: Path) -> None:
    """TRL's own default is bf16 autocast whatever the weights are."""
    config = config_of(Rung(0, 2, 2), tmp_path, model={"dtype": dtype})
    assert (config.bf16, config.fp16) == (bf16, False)


@pytest.mark.parametrize(("ratio", "steps"), [(0.0, 0), (0.03, 3), (0.5, 50), (1.0, 100)])
def test_warm_up_is_a_share_of_the_steps(ratio: float, steps: int, tmp_path: Path) -> None:
    config = config_of(Rung(0, 2, 2), tmp_path, training={"warmup_ratio": ratio})
    assert config.get_warmup_steps(100) == steps


def test_a_constant_rate_warms_up_too(tmp_path: Path) -> None:
    config = config_of(Rung(0, 2, 2), tmp_path, training={"scheduler": "constant"})
    assert config.lr_scheduler_type == "constant_with_warmup"


@pytest.mark.parametrize(
    ("every_n", "method", "runs"),
    [
        (0, "full", {"0": 1, "1": 1, "2": 1, "3": 1}),
        (1, "full", {"0": 2, "1": 2, "2": 2, "3": 2}),
        (2, "lora", {"0": 2, "1": 1, "2": 2, "3": 1}),
        (3, "full", {"0": 2, "1": 1, "2": 1, "3": 2}),
        (0, "lora", {"0": 1, "1": 1, "2": 1, "3": 1}),
    ],
)
def test_just_the_rungs_layers_are_recomputed(
    every_n: int, method: str, runs: dict[str, int], tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    assignment = make_assignment(rows, tokenizer, rung=Rung(every_n, 4), method=method, training={"steps": 1})
    trainer = build_trainer(assignment, tmp_path)
    with calls_of_mlps(trainer) as calls:
        trainer.train()
    assert dict(calls) == runs


def test_the_model_is_built_as_it_is_traced(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    """Base weights in the spec's dtype, adapters in float32, fused AdamW, no cache."""
    assignment = make_assignment(rows, tokenizer, method="lora", model={"dtype": "bfloat16"})
    trainer = build_trainer(assignment, tmp_path)
    frozen = {p.dtype for p in trainer.model.parameters() if not p.requires_grad}
    trained = {p.dtype for p in trainer.model.parameters() if p.requires_grad}
    assert (frozen, trained) == ({torch.bfloat16}, {torch.float32})
    optimizer = trainer.create_optimizer()
    assert isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["fused"]
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.compute_loss(trainer.model, batch)
    assert batch["use_cache"] is False


def test_a_full_fine_tune_trains_every_weight_in_its_dtype(
    tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    trainer = build_trainer(make_assignment(rows, tokenizer, model={"dtype": "bfloat16"}), tmp_path)
    assert {(p.dtype, p.requires_grad) for p in trainer.model.parameters()} == {(torch.bfloat16, True)}
    assert trainer.model.config._attn_implementation == "sdpa"
