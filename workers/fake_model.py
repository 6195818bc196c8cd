"""The model that a job trains, built by the libraries that will train it, with fake weights that take no
memory.

What TRL 1.16 and PEFT 0.21 do by default, and so what is traced:
- SFTTrainer wraps with `get_peft_model(model, config)`; PEFT's `autocast_adapter_dtype=True` then keeps LoRA
  weights in float32 beside a bfloat16 base (trl/trainer/sft_trainer.py turns that off under ZeRO-3 only, and
  casts to bfloat16 for 4-bit bases only).
- `add_fused_lm_head` patches the base model: the loss is computed in chunks by trl/kernels/chunked_logprob.py
  and no logits are kept.
- accelerate runs the forward pass under autocast when bf16 is set; ours is set exactly when the weights are
  bfloat16.
- Activation checkpointing goes through transformers' `activation_checkpointing_enable`, which also makes the
  embedding's output require a gradient, so that LoRA's first layer has something to recompute for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from trl.trainer.utils import add_fused_lm_head

from jobs.errors import Fault, ProfileError, SpecError
from jobs.spec import JobSpec

TRACED_DEPTH = 3  # the first layer, which may lack an input gradient, the last, and one for all between


def load_config(spec: JobSpec, trusted_models: list[str]) -> PretrainedConfig:
    """The architecture a job asks for.

    Raises SpecError when the job file is at fault; ProfileError when this host can't read it (hub out of
    reach).
    """
    model = spec.model
    if model.config is not None:
        return _from_mapping(model.config)
    assert model.path is not None, "ModelSpec has exactly one of path and config"
    folder = Path(model.path)
    if folder.is_dir():
        file = folder / "config.json"
        if not file.is_file():
            raise _fault("model.path", model.path, "has no config.json", "a model folder holds config.json")
        try:
            kind = json.loads(file.read_text()).get("model_type")
        except (OSError, ValueError, AttributeError) as error:
            raise _fault("model.path", model.path, f"config.json can't be read: {error}") from None
        if not _trusted(spec, trusted_models):
            _known(kind, "model.path", model.path)
    elif folder.is_absolute() or model.path.count("/") > 1:
        # Another host may have it, and profiles are shared: no verdict on the job.
        raise ProfileError(f"model.path: {model.path} is no folder on this host")
    try:
        return AutoConfig.from_pretrained(
            model.path, revision=model.revision, trust_remote_code=_trusted(spec, trusted_models)
        )
    except OSError as error:
        raise ProfileError(f"the config of {model.path} can't be loaded: {_first_line(error)}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise _fault("model.path", model.path, f"its config can't be used: {_first_line(error)}") from None


def _from_mapping(values: dict[str, Any]) -> PretrainedConfig:
    kind = values["model_type"]
    _known(kind, "model.config.model_type", kind)
    try:
        return CONFIG_MAPPING[kind](**{key: value for key, value in values.items() if key != "model_type"})
    except Exception as error:  # transformers validates with its own exception types, which differ by version
        raise _fault(
            "model.config", json.dumps(values)[:80], f"is not a usable {kind} config: {_first_line(error)}"
        ) from None


def _known(kind: Any, path: str, given: str) -> None:
    if kind not in CONFIG_MAPPING:
        raise _fault(
            path,
            str(given),
            f"model type {kind!r} is not known to transformers",
            "see AutoConfig's model types",
        )


def _trusted(spec: JobSpec, trusted_models: list[str]) -> bool:
    return spec.model.trust_remote_code and spec.model.path in trusted_models


def check_config(spec: JobSpec, config: PretrainedConfig) -> None:
    """Raises SpecError when the model can't be trained the way the job asks."""
    text = config.get_text_config()
    heads, shared = getattr(text, "num_attention_heads", 0), getattr(text, "num_key_value_heads", 0)
    if heads and shared and heads % shared:
        problem = f"{heads} attention heads can't share {shared} key and value heads"
        raise _fault(
            "model",
            config.model_type,
            problem,
            "num_attention_heads must be a multiple of num_key_value_heads",
        )
    if getattr(text, "attn_logit_softcapping", None) and spec.model.attention != "eager":
        problem = f"can't be used with {config.model_type}, which caps its attention logits"
        raise _fault("model.attention", spec.model.attention, problem, "use eager")


@dataclass
class FakeModel:
    """A trainable model of TRACED_DEPTH layers with fake weights, and sizes of the whole one."""

    model: nn.Module  # as the trainer calls it: wrapped by PEFT for LoRA
    base: PreTrainedModel
    layers: list[nn.Module]
    depth: int  # of the whole model

    def parameters(self) -> list[nn.Parameter]:
        return list(self.model.parameters())


def at_depth(config: PretrainedConfig, depth: int) -> PretrainedConfig:
    """A copy of config with this many layers."""
    text = config.get_text_config()
    changed = type(config).from_dict(config.to_dict())
    target = changed.get_text_config()
    if len(getattr(text, "layer_types", None) or ()) > depth:
        target.layer_types = list(text.layer_types)[:depth]
    target.num_hidden_layers = depth
    return changed


def build(
    spec: JobSpec,
    config: PretrainedConfig,
    mode: FakeTensorMode,
    depth: int = TRACED_DEPTH,
    trust: bool = False,
) -> FakeModel:
    """The model a job trains, cut to `depth` layers, on fake CPU weights. Raises SpecError or ProfileError."""
    whole = config.get_text_config().num_hidden_layers
    base = _bare(spec, config, min(depth, whole), trust)
    layers = _layers(base, min(depth, whole))
    model = _adapted(spec, base) if spec.method.kind != "full" else base
    add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
    with mode:
        _make_fake(model)
    model.train()
    return FakeModel(model, base, layers, whole)


def layer_sizes(spec: JobSpec, config: PretrainedConfig, trust: bool) -> list[int]:
    """Parameters of each layer of the whole base model, in order."""
    depth = config.get_text_config().num_hidden_layers
    return [
        sum(parameter.numel() for parameter in layer.parameters())
        for layer in _layers(_bare(spec, config, depth, trust), depth)
    ]


def _bare(spec: JobSpec, config: PretrainedConfig, depth: int, trust: bool) -> PreTrainedModel:
    """The base model at this depth, on the meta device."""
    attention = "sdpa" if spec.model.attention == "flash_attention_2" else spec.model.attention
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(
                at_depth(config, depth),
                dtype=getattr(torch, spec.model.dtype),
                attn_implementation=attention,
                trust_remote_code=trust,
            )
    except (ValueError, TypeError, ImportError, RuntimeError, AttributeError, ZeroDivisionError) as error:
        raise _fault("model", config.model_type, f"can't be built: {_first_line(error)}") from None


def _layers(base: PreTrainedModel, depth: int) -> list[nn.Module]:
    layers = [module for module in base.modules() if isinstance(module, GradientCheckpointingLayer)]
    if len(layers) != depth:
        raise ProfileError(
            f"{base.config.model_type}: {len(layers)} layers can be checkpointed where {depth} were expected; "
            "models with more than one stack of layers can't be traced yet"
        )
    return layers


def _adapted(spec: JobSpec, base: PreTrainedModel) -> nn.Module:
    method = spec.method
    if method.kind == "qlora":
        raise ProfileError(
            "qlora needs bitsandbytes on the host that traces it, which this version of tuneyard does not support yet; "
            "use method lora"
        )
    linear = sorted({name.rsplit(".", 1)[-1] for name, module in base.named_modules() if _is_linear(module)})
    head = base.get_output_embeddings()
    names = {id(module): name for name, module in base.named_modules()}
    head_name = names.get(id(head), "lm_head").rsplit(".", 1)[-1]
    if isinstance(method.targets, list) and head_name in method.targets:
        problem = f"{head_name} can't carry an adapter: TRL's loss reads its weight directly"
        raise _fault("method.targets", ", ".join(method.targets), problem, f"leave out {head_name}")
    lora = LoraConfig(
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules=method.targets,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(base, lora)
    except ValueError as error:
        here = ", ".join(name for name in linear if name != head_name)
        given = ", ".join(method.targets) if isinstance(method.targets, list) else method.targets
        raise _fault("method.targets", given, _first_line(error)[:160], f"this model has {here}") from None


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _make_fake(model: nn.Module) -> None:
    """Put fake CPU tensors where the meta ones are; PEFT's and torch's `.to` can't. Tied weights stay tied."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if id(parameter) not in made:
                    tensor = torch.empty_strided(parameter.shape, parameter.stride(), dtype=parameter.dtype)
                    made[id(parameter)] = nn.Parameter(tensor, requires_grad=parameter.requires_grad)
                module._parameters[name] = made[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = made.setdefault(
                    id(buffer), torch.empty(buffer.shape, dtype=buffer.dtype)
                )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _fault(path: str, given: str, problem: str, fix: str = "") -> SpecError:
    return SpecError([Fault(path, given, problem, fix)])
