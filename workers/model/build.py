"""Model, tokenizer and adapters of a job, as the Hugging Face libraries build them."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from jobs.errors import Fault, SpecError, Unavailable, words_of
from jobs.jobfile.options.templates import TOKENS, source_of
from jobs.jobfile.requirements import lacking
from jobs.jobfile.sections.model import ModelSpec
from jobs.jobfile.spec import JobSpec
from jobs.memory.project import Rung
from workers import machine
from workers.checks.libraries import needs_of, tokenizer_needs
from workers.checks.weights import left_over, weight_report
from workers.input_errors import Refused
from workers.model.expert_count import with_expert_count
from workers.model.heads import REWARD, model_class, of_head
from workers.model.quantize import four_bit, quantise

log = logging.getLogger(__name__)


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
    for library, what in tokenizer_needs(Path(source or "")):
        if library not in machine.stack():  # without it some are made with no vocabulary, and nothing is said
            raise Unavailable(f"this host has no {library}, which {what} needs: pip install {library}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=trust)
    except (MemoryError, ImportError) as error:
        raise _of_host(error, f"the tokenizer in {source}") from error
    except Exception as error:  # tokenizers is Rust, and raises plain Exception
        # transformers 5.23, dynamic_module_utils.resolve_trust_remote_code; it has no type of its own.
        if not trust and isinstance(error, ValueError) and "trust_remote_code" in str(error):
            raise Refused(
                f"model.tokenizer: {source} brings code of its own, and no operator allowed that; "
                "add it to the server's trusted models and set model.trust_remote_code, or use another tokenizer"
            ) from error
        if trust or not os.path.isdir(source or "") or getattr(error, "errno", None) is not None:
            raise
        field = "model.tokenizer" if model.tokenizer else "model.path"
        problem = f"its tokenizer can't be built: {_plain(error)}"
        fix = "save the tokenizer again, or set model.tokenizer to one that is complete"
        raise SpecError([Fault(field, str(source), problem, fix)], "model") from error
    _dress(tokenizer, model)
    if tokenizer.eos_token is None:
        raise Refused(f"model.tokenizer: {source} has no eos_token; set one in its tokenizer_config.json")
    return tokenizer


def _dress(tokenizer: PreTrainedTokenizerBase, model: ModelSpec) -> None:
    """The chat template and the token of a text's end that the job file gives. Raises SpecError for unknown tokens."""
    vocabulary = tokenizer.get_vocab() if model.eos_token or model.chat_template in TOKENS else {}
    if model.eos_token is not None:
        if model.eos_token not in vocabulary:
            fix = "give a token of its vocabulary, such as the one that ends a turn in its chat template"
            problem = "is not in the tokenizer's vocabulary"
            raise SpecError([Fault("model.eos_token", model.eos_token, problem, fix)])
        tokenizer.eos_token = model.eos_token
    if model.chat_template is not None:
        absent = [token for token in TOKENS.get(model.chat_template, ()) if token not in vocabulary]
        if absent:
            problem = f"is written with {' and '.join(absent)}, which the tokenizer has no token for"
            fix = "give a template that is written with its own tokens"
            raise SpecError([Fault("model.chat_template", model.chat_template, problem, fix)])
        tokenizer.chat_template = source_of(model.chat_template)


def build_config(model: ModelSpec, trust: bool) -> PreTrainedConfig:
    """The architecture: the model's own, or the one that the job file gives. Raises Refused if it is none."""
    if model.path is not None:
        return with_expert_count(_own_config(model, trust))
    values = dict(model.config or {})
    kind = values.pop("model_type")
    try:
        return with_expert_count(AutoConfig.for_model(kind, **values))
    except StrictDataclassError as error:
        raise Refused(f"model.config: {_plain(error)}") from error
    except (TypeError, ValueError) as error:
        raise Refused(f"model.config: {str(error).splitlines()[0]}") from error


def _own_config(model: ModelSpec, trust: bool) -> PreTrainedConfig:
    """The config of a model folder or hub id. Raises SpecError for a folder's that can't be used."""
    try:
        return AutoConfig.from_pretrained(model.path, revision=model.revision, trust_remote_code=trust)
    except ImportError as error:
        raise _of_host(error, f"the model in {model.path}") from error
    except (StrictDataclassError, ValueError, TypeError, AttributeError, KeyError) as error:
        # Code of its own, and a model type that the transformers of another host may know, are no fault of the file.
        others = ("trust_remote_code", "does not recognize this architecture")
        if trust or not os.path.isdir(model.path or "") or any(words in str(error) for words in others):
            raise
        where = os.path.join(model.path or "", "config.json")
        fault = Fault("model.path", where, f"can't be used: {_plain(error)}", "correct that value in it")
        raise SpecError([fault], "model") from error


def _of_host(error: MemoryError | ImportError, what: str) -> Exception:
    """A library that is missing is the host's, and no fault of the job; memory is what it was."""
    if isinstance(error, MemoryError):
        return error
    return Unavailable(f"this host lacks a library for {what}: {_plain(error)}")


def _plain(error: Exception) -> str:
    """What a library's exception says, without its type."""
    if isinstance(error, KeyError):
        return f"{error.args[0] if error.args else 'a value'} is missing"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith("Couldn't instantiate the backend tokenizer"):
        return "no file in it holds a vocabulary that can be read"
    if isinstance(error, StrictDataclassError) and len(lines) > 1:
        return (lines[1].partition(": ")[2] or lines[1]).partition(" in (<class")[0]
    words = words_of(error).partition(": ")[2] or type(error).__name__
    wrong = isinstance(error, (TypeError, AttributeError))
    return f"a value in it has the wrong type ({words})" if wrong else words


def build_model(
    spec: JobSpec, config: PreTrainedConfig, trust: bool, use_cpu: bool = True
) -> PreTrainedModel:
    """The model on the CPU (qlora: in 4 bits on the card), in its dtype; the seed makes random weights.

    Raises SpecError for weights that lack tensors of the model or have others of their names, Unavailable where this
    host lacks a library for them.
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
        made = model_class(spec.trainer).from_config(config, **options)
        return quantise(made, device) if packed else made
    if packed:
        options |= {"quantization_config": four_bit(), "device_map": {"": device}}
    if spec.trainer == REWARD:
        set_seed(spec.training.seed)  # its head begins with random weights
    try:
        made, found = model_class(spec.trainer).from_pretrained(
            model.path,
            config=config,
            revision=model.revision,
            ignore_mismatched_sizes=True,  # they are told below, with their sizes
            output_loading_info=True,
            **options,
        )
    except ImportError as error:
        raise _of_host(error, f"the model in {model.path}") from error
    found = of_head(found, spec.trainer)
    # A model's own code may begin what it does not save by itself.
    if not trust and (faults := weight_report(str(model.path), found)):
        raise SpecError(faults)
    if not trust and (text := left_over(found, config)):
        log.warning("%s", text)
    return made


def check_method(spec: JobSpec, rung: Rung, use_cpu: bool) -> None:
    """Raises Refused for a method or a rung that this card can't train, Unavailable where the host lacks a library."""
    if rung.offload and use_cpu:
        raise Refused("memory.offload: a CPU card has no other memory to offload to; set it to false")
    if reason := lacking(spec, machine.stack(), "cpu" if use_cpu else "cuda", needs_of(spec)):
        raise Unavailable(f"this host {reason.text}")
    if spec.model.engine == "unsloth" and rung.every_n > 1:
        raise Refused("memory.checkpointing: Unsloth checkpoints every layer or none; use every_layer or off")
