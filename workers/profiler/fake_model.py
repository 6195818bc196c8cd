"""The model that a job trains, built by the libraries that will train it, with fake weights that take no
memory.

What TRL 1.16 and PEFT 0.21 do by default, and so what is traced:
- SFTTrainer wraps with PEFT (workers/profiler/adapters.py).
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
from huggingface_hub import constants
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.integrations import activate_neftune
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from trl.trainer.utils import add_fused_lm_head, disable_dropout_in_model

from jobs.errors import Fault, ProfileError, SpecError
from jobs.jobfile.spec import JobSpec
from jobs.memory.profile import Resting
from workers.checks.hub import cached_folder, reachable
from workers.model.heads import for_trainer, model_class
from workers.profiler import layer_classes
from workers.profiler.adapters import adapted
from workers.profiler.emulation.fake_four_bit import elements
from workers.profiler.losses import loss_of
from workers.profiler.optimizer_state import embedding_weights, state_tensors


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
    elif cached_folder(model.path, model.revision) is None and not reachable():
        raise ProfileError(
            f"model.path: {model.path} is not in this host's Hugging Face cache, and {constants.ENDPOINT} can't be "
            "reached from here"
        )
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


class PlainFakeTensorMode(FakeTensorMode):
    """Without torch's wrapper around each operation that keeps its compiler out, which no trace starts."""

    __torch_dispatch__ = FakeTensorMode.__torch_dispatch__.__wrapped__

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


@dataclass
class FakeModel:
    """A trainable model with fake weights, whole or cut to a few layers, and what the whole one is made of."""

    model: nn.Module  # as the trainer calls it: wrapped by PEFT for LoRA
    base: PreTrainedModel
    layers: list[nn.Module]
    names: tuple[str, ...]  # of the segments of `layers`, as in MemoryProfile.order
    order: tuple[str, ...]  # the same for every layer of the whole model

    def parameters(self) -> list[nn.Parameter]:
        return list(self.model.parameters())

    def repeats(self) -> list[int]:
        """How many layers of the whole model each of `layers` stands for."""
        return [self.order.count(name) // self.names.count(name) for name in self.names]


def build(
    spec: JobSpec,
    config: PretrainedConfig,
    mode: FakeTensorMode,
    copies: int | None = 1,
    trust: bool = False,
) -> FakeModel:
    """The model a job trains on fake CPU weights, with this many layers of each kind; None keeps every layer.

    Raises SpecError or ProfileError.
    """
    base = _bare(spec, config, trust)
    whole = layer_classes.stack(base)
    order = layer_classes.names(base, whole)
    indices = layer_classes.chosen(order, len(order) if copies is None else copies)
    layers = layer_classes.keep(base, whole, indices)
    model = adapted(spec, base)
    loss = loss_of(spec.trainer)
    if loss.outputs:
        add_fused_lm_head(base, outputs=loss.outputs)
    if not loss.drops_out:
        disable_dropout_in_model(model)
    with mode:
        _make_fake(model)
    model.train()
    if spec.training.neftune_alpha is not None:
        activate_neftune(model, spec.training.neftune_alpha)
    return FakeModel(model, base, layers, tuple(order[index] for index in indices), order)


def shallower(fake: FakeModel) -> FakeModel:
    """The same model cut down to one layer of each kind: fake is of no use any more."""
    indices = layer_classes.chosen(fake.names, 1)
    layers = layer_classes.keep(fake.base, fake.layers, indices)
    return FakeModel(fake.model, fake.base, layers, tuple(fake.names[index] for index in indices), fake.order)


def resting_tensors(spec: JobSpec, fake: FakeModel) -> dict[str, tuple[Resting, ...]]:
    """Weights and large buffers outside layers and of each kind of layer, in the order of the model."""
    layer_of = {
        id(tensor): name
        for layer, name in zip(fake.layers, fake.names, strict=True)
        for tensor in (*layer.parameters(), *layer.buffers())
    }
    embeddings = embedding_weights(fake.model)
    made: dict[str, list[Resting]] = {}
    place = "before"
    seen: set[int] = set()
    for module in fake.model.modules():
        for parameter in module._parameters.values():
            if parameter is None or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if id(parameter) in layer_of:
                place = "after"
            packed = elements(parameter) if parameter.dtype is torch.uint8 else 0
            state = (
                state_tensors(spec, parameter, id(parameter) in embeddings) if parameter.requires_grad else ()
            )
            where = layer_of.get(id(parameter), place)
            made.setdefault(where, []).append(Resting(parameter.nbytes, packed, state))
    return {name: tuple(found) for name, found in made.items()}


def positions(config: PretrainedConfig) -> int | None:
    """The longest row that the model has positions for, where it says so."""
    text = config.get_text_config()
    names = ("max_position_embeddings", "max_seq_len")
    return next((n for name in names if isinstance(n := getattr(text, name, None), int) and n > 0), None)


def _bare(spec: JobSpec, config: PretrainedConfig, trust: bool) -> PreTrainedModel:
    """The base model at its whole depth, on the meta device."""
    attention = "sdpa" if spec.model.attention == "flash_attention_2" else spec.model.attention
    try:
        with torch.device("meta"):
            return model_class(spec.trainer).from_config(
                for_trainer(type(config).from_dict(config.to_dict()), spec.trainer),
                dtype=getattr(torch, spec.model.dtype),
                attn_implementation=attention,
                trust_remote_code=trust,
            )
    except (ValueError, TypeError, ImportError, RuntimeError, AttributeError, ZeroDivisionError) as error:
        if "attn_implementation" in str(error):
            problem = f"is not there for {config.model_type} in the installed transformers"
            raise _fault("model.attention", spec.model.attention, problem, "use eager") from None
        raise _fault("model", config.model_type, f"can't be built: {_first_line(error)}") from None


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
    """What an error says, in one line: of one that ends with a colon the next as well, which has the reason."""
    first, *others = str(error).strip().splitlines() or [type(error).__name__]
    return f"{first} {others[0].strip()}" if first.endswith(":") and others else first


def _fault(path: str, given: str, problem: str, fix: str = "") -> SpecError:
    return SpecError([Fault(path, given, problem, fix)])
