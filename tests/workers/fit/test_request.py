"""What a script's configuration comes to as a job, and what is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from transformers import BitsAndBytesConfig, TrainingArguments
from trl import SFTConfig

from jobs.errors import SpecError
from jobs.memory.rung import Rung
from tests.workers.fit.scripts import config, small
from workers.fit.request import request_of

FOUR_BIT = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": torch.bfloat16,
}


def faults(made: Any, model: Any, peft_config: Any = None) -> dict[str, str]:
    with pytest.raises(SpecError) as raised:
        request_of(made, model, peft_config)
    return {one.path: f"{one.problem}; {one.fix}" for one in raised.value.faults}


def test_a_loaded_model_is_traced_by_its_own_config(tmp_path: Path) -> None:
    made = request_of(config(tmp_path), small(torch.bfloat16, hidden_size=64))
    spec = made.spec
    assert spec.model.config is not None and spec.model.config["hidden_size"] == 64
    assert spec.model.dtype == "bfloat16" and spec.method.kind == "full" and spec.trainer == "sft"
    assert spec.training.sequence_length == 128 and spec.training.global_batch == 8
    assert made.own == Rung(1, 8), "TRL checkpoints every layer where nothing is said"


def test_a_model_by_name_has_trls_type_for_its_weights(tmp_path: Path) -> None:
    """Float32, unless model_init_kwargs say otherwise: four bytes a weight that nobody asked for."""
    plain = request_of(config(tmp_path, bf16=True), "org/model")
    assert plain.spec.model.dtype == "float32" and plain.spec.autocast_dtype == "bfloat16"
    given = config(
        tmp_path, bf16=True, model_init_kwargs={"dtype": "bfloat16", "attn_implementation": "eager"}
    )
    model = request_of(given, "org/model").spec.model
    assert (model.dtype, model.attention, model.path) == ("bfloat16", "eager", "org/model")


def test_lora_is_carried_over(tmp_path: Path) -> None:
    given = LoraConfig(
        r=4, lora_alpha=9, lora_dropout=0.1, target_modules=["q_proj", "v_proj"], use_rslora=True
    )
    method = request_of(config(tmp_path), small(), given).spec.method
    assert (method.kind, method.rank, method.alpha, method.dropout) == ("lora", 4, 9.0, 0.1)
    assert method.targets == ["q_proj", "v_proj"] and method.rslora and not method.dora


def test_modules_that_peft_takes_by_default_are_named(tmp_path: Path) -> None:
    assert request_of(config(tmp_path), small(), LoraConfig(r=4)).spec.method.targets == ["q_proj", "v_proj"]


def test_a_model_with_adapters_has_its_own(tmp_path: Path) -> None:
    model = get_peft_model(small(), LoraConfig(r=2, target_modules=["q_proj"]))
    assert request_of(config(tmp_path), model).spec.method.rank == 2
    assert "stands beside a PeftModel" in faults(config(tmp_path), model, LoraConfig(r=2))["peft_config"]


def test_qlora_by_name(tmp_path: Path) -> None:
    init = {"quantization_config": BitsAndBytesConfig(**FOUR_BIT), "dtype": "bfloat16"}
    given = config(tmp_path, bf16=True, model_init_kwargs=init)
    assert (
        request_of(given, "org/model", LoraConfig(r=4, target_modules="all-linear")).spec.method.kind
        == "qlora"
    )
    assert "is required with 4-bit weights" in faults(given, "org/model")["peft_config"]


def test_other_ways_to_pack_are_refused(tmp_path: Path) -> None:
    packed = BitsAndBytesConfig(**{**FOUR_BIT, "bnb_4bit_use_double_quant": False})
    given = config(tmp_path, model_init_kwargs={"quantization_config": packed})
    told = faults(given, "org/model", LoraConfig(r=4, target_modules="all-linear"))
    assert told == {
        "quantization_config.bnb_4bit_use_double_quant": "is not traced; use bnb_4bit_use_double_quant=True"
    }


def test_another_configuration_is_refused_with_those_that_are_not(tmp_path: Path) -> None:
    told = faults(TrainingArguments(str(tmp_path), use_cpu=True), small())
    assert told == {"config": "is no configuration that fit can project; use one of trl's SFTConfig"}


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"activation_offloading": True}, "SFTConfig.activation_offloading"),
        ({"padding_free": True}, "SFTConfig.padding_free"),
        ({"packing": True, "packing_strategy": "wrapped"}, "SFTConfig.packing_strategy"),
        ({"torch_compile": True}, "SFTConfig.torch_compile"),
        ({"label_smoothing_factor": 0.1}, "SFTConfig.label_smoothing_factor"),
        ({"auto_find_batch_size": True}, "SFTConfig.auto_find_batch_size"),
        ({"optim": "adafactor"}, "SFTConfig.optim"),
        ({"max_length": None}, "SFTConfig.max_length"),
    ],
)
def test_what_is_not_in_the_projection_is_refused(tmp_path: Path, values: dict[str, Any], path: str) -> None:
    assert [*faults(config(tmp_path, **values), small())] == [path]


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    given = config(tmp_path, max_length=None, torch_compile=True)
    adapters = LoraConfig(
        r=4, init_lora_weights="pissa", trainable_token_indices=[1], target_modules=".*_proj"
    )
    assert set(faults(given, small(), adapters)) == {
        "SFTConfig.max_length",
        "SFTConfig.torch_compile",
        "peft_config.init_lora_weights",
        "peft_config.trainable_token_indices",
        "peft_config.target_modules",
    }


def test_what_a_job_can_have_is_in_the_projection(tmp_path: Path) -> None:
    adapters = LoraConfig(
        r=4,
        target_modules=["q_proj", "v_proj"],
        modules_to_save=["lm_head"],
        exclude_modules=["v_proj"],
        rank_pattern={"q_proj": 8},
    )
    spec = request_of(config(tmp_path, neftune_noise_alpha=5.0), small(), adapters).spec
    assert spec.training.neftune_alpha == 5.0 and spec.method.modules_to_save == ["lm_head"]
    assert spec.method.exclude == ["v_proj"] and spec.method.rank_pattern == {"q_proj": 8}


def test_adapters_of_another_kind_are_refused(tmp_path: Path) -> None:
    assert "use peft.LoraConfig" in faults(config(tmp_path), small(), IA3Config())["peft_config"]


def test_frozen_weights_without_a_reason_are_refused(tmp_path: Path) -> None:
    model = small()
    model.model.embed_tokens.weight.requires_grad_(False)
    assert "are frozen" in faults(config(tmp_path), model)["model"]


def test_faults_have_the_names_of_a_script(tmp_path: Path) -> None:
    assert "max_length" in faults(config(tmp_path, max_length=4), small())


def test_every_field_that_is_looked_at_is_one_of_trls(tmp_path: Path) -> None:
    from workers.fit.request import _KNOWN_LORA, _REFUSED

    made, adapters = SFTConfig(str(tmp_path), use_cpu=True), LoraConfig()
    assert all(hasattr(made, field) for field, *_ in _REFUSED)
    assert all(hasattr(adapters, name) for name in _KNOWN_LORA)
