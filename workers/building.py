"""Model, tokenizer, adapters and data of a job, as the Hugging Face libraries build them."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError
from peft import LoraConfig
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from jobs.errors import InputError, SpecError
from jobs.memory import Rung
from jobs.spec import DataSpec, JobSpec, MethodSpec, ModelSpec
from workers.inputs import check_data
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
        return AutoConfig.from_pretrained(model.path, revision=model.revision, trust_remote_code=trust)
    values = dict(model.config or {})
    kind = values.pop("model_type")
    try:
        return AutoConfig.for_model(kind, **values)
    except (TypeError, ValueError) as error:
        raise Refused(f"model.config: {str(error).splitlines()[0]}") from error


def build_model(spec: JobSpec, config: PreTrainedConfig, trust: bool) -> PreTrainedModel:
    """The model on the CPU (qlora: in 4 bits on the GPU), in its dtype; the seed makes random weights."""
    model = spec.model
    options: dict[str, Any] = {
        "dtype": getattr(torch, model.dtype),
        "attn_implementation": model.attention,
        "trust_remote_code": trust,
    }
    if model.path is None:
        set_seed(spec.training.seed)
        return AutoModelForCausalLM.from_config(config, **options)
    if spec.method.kind == "qlora":
        options |= {"quantization_config": _four_bit(), "device_map": {"": torch.cuda.current_device()}}
    return AutoModelForCausalLM.from_pretrained(model.path, config=config, revision=model.revision, **options)


def check_method(spec: JobSpec, rung: Rung, use_cpu: bool) -> None:
    """Raises Refused for a method or a rung that this card can't train."""
    if rung.offload and use_cpu:
        raise Refused("memory.offload: a CPU card has no other memory to offload to; set it to false")
    if spec.method.kind == "qlora":
        missing = ["a CUDA card"] if use_cpu or not torch.cuda.is_available() else []
        if importlib.util.find_spec("bitsandbytes") is None:
            missing.append("bitsandbytes (pip install bitsandbytes on the host)")
        if missing:
            raise Refused(f"method.kind: qlora needs {' and '.join(missing)}; use lora")
        if spec.model.path is None:
            raise Refused("method.kind: qlora needs a model.path with weights to quantise; use lora")


def lora_config(method: MethodSpec) -> LoraConfig | None:
    """Adapters of lora and qlora; None for a full fine-tune."""
    if method.kind == "full":
        return None
    return LoraConfig(
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules=method.targets,
        task_type="CAUSAL_LM",
    )


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


def _four_bit() -> BitsAndBytesConfig:
    """NF4 with double quantisation, computing in bfloat16 (QLoRA, arXiv:2305.14314, section 3)."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
