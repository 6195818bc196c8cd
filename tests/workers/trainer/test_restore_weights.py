"""Resuming puts every weight of a checkpoint back into the model, whatever names the library saves them by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, TrainerCallback

import workers.trainer.train
from jobs.state import Outcome
from tests.workers.builders import TINY, claimed, make_assignment
from workers.attempt_folder import checkpoints_root
from workers.checkpoints.folders import listed
from workers.trainer.saving.restore_weights import NotPutBack, check_adapter, put_back
from workers.trainer.train import run_attempt

SIZES = {**TINY, "num_hidden_layers": 2}
MOE = {
    **SIZES,
    "num_local_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "mixtral": {**MOE, "model_type": "mixtral"},  # experts are fused in memory, and apart in the file
    "qwen3_moe": {**MOE, "model_type": "qwen3_moe", "head_dim": 8},
    "llama": SIZES,
    "tied": {**SIZES, "tie_word_embeddings": True},
}


class Look(TrainerCallback):
    """The weights that training begins with."""

    weights: dict[str, torch.Tensor]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        model = kwargs["model"]
        found = get_peft_model_state_dict(model) if hasattr(model, "peft_config") else model.state_dict()
        self.weights = {name: weight.detach().clone() for name, weight in found.items()}


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Look:
    build, seen = workers.trainer.train.build_trainer, Look()

    def built(*args: Any, **kwargs: Any) -> Any:
        trainer = build(*args, **kwargs)
        trainer.add_callback(seen)
        return trainer

    monkeypatch.setattr(workers.trainer.train, "build_trainer", built)
    return seen


def trained(tmp_path: Path, tokenizer: Path, rows: Path, attempt: int, steps: int, **sections: Any) -> Path:
    """Its newest checkpoint."""
    assignment = make_assignment(
        rows, tokenizer, attempt_id=attempt, training={"steps": steps}, output=f"out-{attempt}", **sections
    )
    home = tmp_path / "home"
    ended = run_attempt(assignment, claimed(home, assignment), home, tmp_path / "out")
    assert ended.outcome is Outcome.SUCCEEDED, ended.message
    return listed(checkpoints_root(home, 1))[-1][0]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_full_fine_tune_goes_on_with_the_weights_of_its_checkpoint(
    tmp_path: Path, tokenizer: Path, rows: Path, look: Look, name: str
) -> None:
    sections = {"model": {"config": CONFIGS[name]}}
    checkpoint = trained(tmp_path, tokenizer, rows, 1, 2, **sections)
    begun = look.weights
    trained(tmp_path, tokenizer, rows, 2, 3, **sections)
    saved = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).state_dict()
    assert saved.keys() == look.weights.keys()
    assert [key for key in saved if not torch.equal(saved[key], look.weights[key])] == []
    assert any(not torch.equal(begun[key], saved[key]) for key in saved), "the first steps changed them"


@pytest.mark.parametrize(("name", "dora"), [("mixtral", False), ("llama", False), ("llama", True)])
def test_an_adapter_goes_on_as_its_checkpoint_has_it(
    tmp_path: Path, tokenizer: Path, rows: Path, look: Look, name: str, dora: bool
) -> None:
    sections = {"model": {"config": CONFIGS[name]}, "method": {"kind": "lora", "rank": 2, "dora": dora}}
    checkpoint = trained(tmp_path, tokenizer, rows, 1, 2, **sections)
    trained(tmp_path, tokenizer, rows, 2, 3, **sections)
    saved = load_file(checkpoint / "adapter_model.safetensors")
    assert saved.keys() == look.weights.keys()
    assert [key for key in saved if not torch.equal(saved[key], look.weights[key])] == []
    assert any(saved[key].any() for key in saved if "lora_B" in key), "the first steps changed them"


def a_model(name: str) -> PreTrainedModel:
    values = {key: value for key, value in CONFIGS[name].items() if key != "model_type"}
    config = AutoConfig.for_model(CONFIGS[name].get("model_type", "llama"), **values)
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize(("name", "weight"), [("mixtral", "block_sparse_moe.gate"), ("llama", "up_proj")])
def test_a_checkpoint_that_lacks_a_weight_is_refused(tmp_path: Path, name: str, weight: str) -> None:
    made = a_model(name)
    made.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    held = load_file(file)
    lacked = next(key for key in held if weight in key)
    save_file({key: value for key, value in held.items() if key != lacked}, file, {"format": "pt"})
    with pytest.raises(
        NotPutBack, match=r"can't be gone on from: 1 weight of the model .* such as model\.layers\.0\."
    ):
        put_back(a_model(name), tmp_path)


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_in_several_files_are_all_put_back(tmp_path: Path, name: str) -> None:
    saved, other = a_model(name), a_model(name)
    saved.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    parameters = [*other.parameters()]
    put_back(other, tmp_path)
    assert all(torch.equal(one, two) for one, two in zip(saved.parameters(), other.parameters(), strict=True))
    assert all(one is two for one, two in zip(parameters, other.parameters(), strict=True)), "in place"


def test_an_adapter_that_was_not_loaded_is_told(tmp_path: Path) -> None:
    model = get_peft_model(a_model("llama"), LoraConfig(r=2, target_modules="all-linear"))
    model.save_pretrained(tmp_path)
    check_adapter(model, tmp_path)
    name = next(name for name, _ in model.named_parameters() if "lora_A" in name)
    with torch.no_grad():
        model.get_parameter(name).add_(1)
    with pytest.raises(NotPutBack, match=r"1 weight of the model would not be its, such as .*lora_A"):
        check_adapter(model, tmp_path)
