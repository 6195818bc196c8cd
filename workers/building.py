"""Model, tokenizer, adapters and data of a job, as the Hugging Face libraries build them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from jobs.errors import InputError, SpecError
from jobs.memory import Rung
from jobs.requirements import lacking
from jobs.spec import DataSpec, JobSpec, ModelSpec
from workers import machine
from workers.expert_count import with_expert_count
from workers.inputs import check_data
from workers.quantising import four_bit, quantise
from workers.rows import WANTED, kind_of

_LOADERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
_CHAT_EXTRAS = ("tools", "chat_template_kwargs")


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
    """The model on the CPU (qlora: in 4 bits on the card), in its dtype; the seed makes random weights."""
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
    return AutoModelForCausalLM.from_pretrained(model.path, config=config, revision=model.revision, **options)


def check_method(spec: JobSpec, rung: Rung, use_cpu: bool) -> None:
    """Raises Refused for a method or a rung that this card can't train."""
    if rung.offload and use_cpu:
        raise Refused("memory.offload: a CPU card has no other memory to offload to; set it to false")
    if reason := lacking(spec, machine.stack(), "cpu" if use_cpu else "cuda"):
        raise Refused(f"this host {reason.text}")
    if spec.model.engine == "unsloth" and rung.every_n > 1:
        raise Refused("memory.checkpointing: Unsloth checkpoints every layer or none; use every_layer or off")


def build_dataset(data: DataSpec) -> Dataset:
    """The training rows, with just the columns that will be trained on. Raises SpecError or Refused."""
    try:
        rows = _load(data)
    except (DatasetGenerationError, ValueError, OSError) as error:
        # datasets says what went wrong inside it; our own reading names the line.
        if faults := check_data(data.path, data.split):
            raise SpecError(faults) from error
        raise
    kind = kind_of(rows.column_names)
    if kind is None:
        there = ", ".join(rows.column_names)
        raise Refused(f"data.path: {data.path} has none of the expected columns; it has: {there}; {WANTED}")
    if len(rows) == 0:
        raise Refused(f"data.path: {data.path} has no rows; {WANTED}")
    return rows.select_columns([c for c in rows.column_names if c in (*kind, *_CHAT_EXTRAS)])


def split(rows: Dataset, spec: JobSpec) -> tuple[Dataset, Dataset | None]:
    """Rows to train on and rows to evaluate on, None without a holdout; the same for every rank. Raises Refused."""
    if not spec.data.holdout:
        return rows, None
    held = max(1, round(len(rows) * spec.data.holdout))
    if held >= len(rows):
        raise Refused(
            f"data.holdout: {spec.data.path} has too few rows to keep some out of training: {len(rows)}"
        )
    parts = rows.train_test_split(test_size=held, seed=spec.training.seed)
    return parts["train"], parts["test"]


def check_fit(rows: Dataset, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
    """Raises Refused where data, tokenizer and model don't go together."""
    first = rows[0]
    chat = "messages" in first or isinstance(first.get("prompt"), list)
    if chat and tokenizer.chat_template is None:
        raise Refused(
            "data.path: the rows are conversations, but the tokenizer has no chat_template; "
            "add one to it, or give prompt and completion, or text"
        )
    vocabulary = config.get_text_config().vocab_size
    if len(tokenizer) > vocabulary:
        raise Refused(
            f"model.tokenizer: has {len(tokenizer)} tokens, the model has room for {vocabulary}; "
            f"set model.config.vocab_size to {len(tokenizer)} or use the model's own tokenizer"
        )


def _load(data: DataSpec) -> Dataset:
    path = Path(data.path)
    if path.is_file():
        loader = _LOADERS.get(path.suffix.lower())
        if loader is None:
            raise SpecError(check_data(data.path, data.split))
        return load_dataset(loader, data_files=str(path), split="train")
    if not path.is_dir():
        return load_dataset(data.path, split=data.split)
    saved = load_from_disk(str(path))
    if not isinstance(saved, DatasetDict):
        return saved
    if data.split not in saved:
        raise SpecError(check_data(data.path, data.split))
    return saved[data.split]
