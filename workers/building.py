"""Model, tokenizer and adapters of a job, as the Hugging Face libraries build them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from jobs.errors import InputError, SpecError, Unavailable
from jobs.memory import Rung
from jobs.requirements import lacking
from jobs.spec import JobSpec, ModelSpec
from workers import machine
from workers.checks.weights import weight_report
from workers.expert_count import with_expert_count
from workers.quantising import four_bit, quantise


class Refused(InputError):
    """The job asks for what can't be trained here."""


def trusts(model: ModelSpec, trusted_models: Collection[str]) -> bool:
    """Whether the model's own code may run. Raises Refused where no operator allowed it."""
    if not model.trust_remote_code:
        return False
    if model.path in trusted_models:
        return True
    raise Refused(
        f"model.trust_remote_code: no operator allowed the code of {model.path}; "
        "add it to the server's trusted models, or set trust_remote_code: false"
    )


def build_tokenizer(model: ModelSpec, trusted_models: Collection[str]) -> PreTrainedTokenizerBase:
    """The job's tokenizer. Its own code runs only if the operator allowed this very source: a trusted model
    vouches for no tokenizer from elsewhere.

    Raises Refused if it can't do without code that may not run, or has no token to end a text with.
    """
    source = model.tokenizer or model.path
    revision = model.revision if model.tokenizer is None else None
    trust = model.trust_remote_code and source in trusted_models
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=trust)
    except ValueError as error:
        # transformers 5.23, dynamic_module_utils.resolve_trust_remote_code; it has no type of its own.
        if trust or "trust_remote_code" not in str(error):
            raise
        raise Refused(
            f"model.tokenizer: {source} brings code of its own, and no operator allowed that; "
            "add it to the server's trusted models and set model.trust_remote_code, or use another tokenizer"
        ) from error
    if tokenizer.eos_token is None:
        raise Refused(f"model.tokenizer: {source} has no eos_token; set one in its tokenizer_config.json")
    return tokenizer


def build_config(model: ModelSpec, trust: bool) -> PreTrainedConfig:
    """The architecture: the model's own, or the one that the job file gives. Raises Refused if it is none."""
    if model.path is not None:
        own = AutoConfig.from_pretrained(model.path, revision=model.revision, trust_remote_code=trust)
        return with_expert_count(own)
    values = dict(model.config or {})
    kind = values.pop("model_type")
    try:
        return with_expert_count(AutoConfig.for_model(kind, **values))
    except (TypeError, ValueError) as error:
        raise Refused(f"model.config: {str(error).splitlines()[0]}") from error


def build_model(
    spec: JobSpec, config: PreTrainedConfig, trust: bool, use_cpu: bool = True
) -> PreTrainedModel:
    """The model on the CPU (qlora: in 4 bits on the card), in its dtype; the seed makes random weights.

    Raises SpecError for weights that lack tensors of the model or have others of their names.
    """
    model = spec.model
    options: dict[str, Any] = {
        "dtype": getattr(torch, model.dtype),
        "attn_implementation": model.attention,
        "trust_remote_code": trust,
    }
    packed, device = spec.method.kind == "qlora", "cpu" if use_cpu else torch.cuda.current_device()
    if model.path is None:
        set_seed(spec.training.seed)
        made = AutoModelForCausalLM.from_config(config, **options)
        return quantise(made, device) if packed else made
    if packed:
        options |= {"quantization_config": four_bit(), "device_map": {"": device}}
    made, found = AutoModelForCausalLM.from_pretrained(
        model.path,
        config=config,
        revision=model.revision,
        ignore_mismatched_sizes=True,  # they are told below, with their sizes
        output_loading_info=True,
        **options,
    )
    # A model's own code may begin what it does not save by itself.
    if not trust and (faults := weight_report(str(model.path), found)):
        raise SpecError(faults)
    return made


def check_method(spec: JobSpec, rung: Rung, use_cpu: bool) -> None:
    """Raises Refused for a method or a rung that this card can't train, Unavailable where the host lacks a library."""
    if rung.offload and use_cpu:
        raise Refused("memory.offload: a CPU card has no other memory to offload to; set it to false")
    if reason := lacking(spec, machine.stack(), "cpu" if use_cpu else "cuda"):
        raise Unavailable(f"this host {reason.text}")
    if spec.model.engine == "unsloth" and rung.every_n > 1:
        raise Refused("memory.checkpointing: Unsloth checkpoints every layer or none; use every_layer or off")
