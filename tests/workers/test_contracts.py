"""What tuneyard takes for granted of the installed TRL, transformers, PEFT and bitsandbytes.

Each was read from their source and decides how much memory a job takes or whether it trains at all: an upgrade that
changes one must fail here, not in a job. tests/workers/trainer/test_train_contract.py holds what follows from it for
our own settings.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.training_args import OptimizerNames
from trl import SFTConfig, SFTTrainer
from trl.kernels import chunked_logprob
from trl.trainer import sft_trainer
from trl.trainer.utils import create_model_from_path

from jobs.jobfile.fields import OPTIMIZERS
from jobs.memory.project import Rung
from tests.workers.builders import TINY, make_assignment
from workers.model.quantize import four_bit
from workers.trainer.train import build_trainer


def tiny(dtype: torch.dtype = torch.bfloat16) -> PreTrainedModel:
    values = {key: value for key, value in TINY.items() if key != "model_type"}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **values), dtype=dtype)


def test_trls_defaults_that_we_set_ourselves(tmp_path: Path) -> None:
    """Left out, each would make a job take another amount of memory than its trace."""
    config = SFTConfig(str(tmp_path), use_cpu=True)
    assert config.activation_checkpointing is True
    assert config.bf16 is True
    assert (config.max_length, config.packing) == (1024, False)
    assert OptimizerNames(config.optim) is OptimizerNames.ADAMW_TORCH_FUSED


def test_trls_defaults_that_the_trace_follows(tmp_path: Path) -> None:
    config = SFTConfig(str(tmp_path), use_cpu=True)
    assert config.loss_type == "nll" and not config.use_liger_kernel
    assert not config.activation_offloading and not config.padding_free
    assert config.packing_strategy == "bfd", "which flattens rows: packed is padding-free"
    assert config.average_tokens_across_devices and config.max_grad_norm == 1.0


def test_the_loss_is_taken_in_chunks(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    """The default loss asks the model for log-probabilities, and no logits come back."""
    trainer = build_trainer(make_assignment(rows, tokenizer), tmp_path)
    seen: list[tuple[Any, Any]] = []
    trainer.model.register_forward_hook(lambda _, args, kw, out: seen.append((kw, out)), with_kwargs=True)
    trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    [(given, outputs)] = seen
    assert given["fused_lm_head"] is True and given["use_cache"] is False
    assert outputs.log_probs is not None and getattr(outputs, "logits", None) is None
    assert isinstance(chunked_logprob.TOKEN_CHUNK_SIZE, int)
    for name in ("_use_triton", "_addmm_fp32"):
        assert callable(getattr(chunked_logprob, name)), "workers/profiler/emulation/cuda_paths.py swaps it"


def test_a_model_given_by_name_is_loaded_in_float32(tmp_path: Path) -> None:
    """Why we load models ourselves, in the job's dtype."""
    tiny().save_pretrained(tmp_path)
    assert create_model_from_path(str(tmp_path)).dtype is torch.float32


def test_what_checkpointing_accepts() -> None:
    accepted = inspect.signature(PreTrainedModel.activation_checkpointing_enable).parameters
    assert {"activation_checkpointing_kwargs", "every_n_layers", "offload"} <= set(accepted)
    assert accepted["every_n_layers"].default == 1 and accepted["offload"].default is False
    model = tiny()
    model.activation_checkpointing_enable({"use_reentrant": False}, every_n_layers=2, offload=False)
    layers = [layer.gradient_checkpointing for layer in model.model.layers]
    assert layers == [True, False, True, False]
    assert model.is_activation_checkpointing
    model.activation_checkpointing_disable()
    assert not any(layer.gradient_checkpointing for layer in model.model.layers)


@pytest.mark.parametrize("method", ["lora", {"kind": "lora", "dora": True}], ids=str)
def test_adapters_below_a_checkpoint_get_their_gradients(
    method: Any, tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    """The same without and with every layer checkpointed; the frozen embedding's output asks for gradients."""
    found = []
    for every_n in (0, 1):
        assignment = make_assignment(rows, tokenizer, rung=Rung(every_n, 4), method=method)
        trainer = build_trainer(assignment, tmp_path)
        # As Trainer.train() does: every_n and use_reentrant are its to hand on.
        if every_n:
            kwargs = dict(trainer.args.activation_checkpointing_kwargs)
            assert kwargs.pop("offload") is False
            trainer.model.activation_checkpointing_enable(
                {"use_reentrant": kwargs["use_reentrant"]}, every_n_layers=kwargs["every_n_layers"]
            )
        trainer.model.train()
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
        trainer.compute_loss(trainer.model, batch).backward()
        assert batch["use_cache"] is False
        found.append({n: p.grad for n, p in trainer.model.named_parameters() if p.requires_grad})
    off, every = found
    assert any("layers.0" in name for name in off)
    for name, gradient in off.items():
        torch.testing.assert_close(every[name], gradient, msg=name)


def test_peft_keeps_adapters_in_float32() -> None:
    assert inspect.signature(get_peft_model).parameters["autocast_adapter_dtype"].default is True
    model = get_peft_model(tiny(), LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


def test_trl_leaves_a_packed_model_as_it_is_but_for_its_adapters() -> None:
    """No upcast of norms, embedding and head, which older versions did; adapters in bfloat16, magnitudes not."""
    source = inspect.getsource(sft_trainer)
    assert "prepare_model_for_kbit_training" not in source
    assert 'if param.requires_grad and "lora_magnitude_vector" not in name' in source
    assert "is_loaded_in_4bit" in inspect.getsource(SFTTrainer.__init__)


def test_peft_asks_for_cudas_autocast() -> None:
    """workers/profiler/emulation/cuda_paths.py answers for it; a layer that names its device needs no such help."""
    source = (Path(peft.__file__).parent / "tuners/lora/bnb.py").read_text()
    assert "not torch.is_autocast_enabled()" in source


def test_transformers_knows_our_optimizers() -> None:
    assert {OptimizerNames(name).value for name in OPTIMIZERS.values()} == set(OPTIMIZERS.values())


def test_what_four_bits_means() -> None:
    found = four_bit()
    assert (found.bnb_4bit_quant_type, found.bnb_4bit_use_double_quant) == ("nf4", True)
    assert (found.bnb_4bit_compute_dtype, found.bnb_4bit_quant_storage) == (torch.bfloat16, torch.uint8)


def test_bitsandbytes_blocks() -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    adamw = inspect.signature(bitsandbytes.optim.AdamW).parameters
    assert adamw["min_8bit_size"].default == 4096
    weight = bitsandbytes.nn.Params4bit(torch.randn(64, 512), quant_type="nf4").to("cpu")
    state = weight.quant_state
    assert (state.blocksize, state.state2.blocksize, weight.dtype) == (64, 256, torch.uint8)
