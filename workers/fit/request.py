"""What a script trains, in the words of a job file: what its trace and its ladder take.

Whatever would change the memory of a step and is not traced is refused by name: a projection that leaves it out would
be wrong without a word. The fields are those of TRL 1.16, transformers 5.23 and PEFT 0.21.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from transformers import AutoConfig, PreTrainedModel
from trl import SFTConfig

from jobs.errors import Fault, SpecError
from jobs.jobfile.fields import OPTIMIZERS
from jobs.jobfile.spec import JobSpec, parse_spec
from jobs.memory.rung import Rung

TRAINERS = {SFTConfig: "sft"}
ATTENTIONS = ("sdpa", "eager", "flash_attention_2")
DTYPES = {torch.bfloat16: "bfloat16", torch.float16: "float16", torch.float32: "float32"}
# Where a fault of the job file's stands in a script.
_IN_A_SCRIPT = {
    "training.sequence_length": "max_length",
    "training.global_batch": "per_device_train_batch_size x gradient_accumulation_steps",
    "training.optimizer": "optim",
    "method.targets": "peft_config.target_modules",
    "method.rank": "peft_config.r",
    "method.exclude": "peft_config.exclude_modules",
    "method.modules_to_save": "peft_config.modules_to_save",
    "training.neftune_alpha": "neftune_noise_alpha",
    "memory.confidence": "confidence",
}
_TRL_DEFAULT_DTYPE = "float32"  # of a model given by name (trl 1.16, create_model_from_path)
# Of model_init_kwargs: those that change nothing in what a step takes.
_HARMLESS_INIT = frozenset(
    {
        "cache_dir",
        "force_download",
        "local_files_only",
        "token",
        "use_cache",
        "low_cpu_mem_usage",
        "subfolder",
    }
)
# Of LoraConfig: those that are carried over, or change nothing in what a step takes.
_KNOWN_LORA = frozenset(
    {
        *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
        *(
            "inference_mode",
            "r",
            "target_modules",
            "lora_alpha",
            "lora_dropout",
            "fan_in_fan_out",
            "use_rslora",
        ),
        *(
            "use_dora",
            "init_lora_weights",
            "rank_pattern",
            "alpha_pattern",
            "modules_to_save",
            "exclude_modules",
            "ensure_weight_tying",
            "megatron_core",
            "loftq_config",
            "runtime_config",
        ),
        "qalora_group_size",
    }
)
# What SFTConfig may not have, with what to do instead: (field, the value that is fine, problem, fix).
_REFUSED: tuple[tuple[str, Any, str, str], ...] = (
    (
        "activation_offloading",
        False,
        "is not in the trace",
        "leave it out: fit chooses offload where it takes it",
    ),
    ("padding_free", False, "is traced only with packing", "set packing=True, or leave it out"),
    ("use_liger_kernel", False, "replaces layers that the trace has as they are", "leave it out"),
    ("torch_compile", False, "makes a step that the trace does not know", "leave it out"),
    (
        "label_smoothing_factor",
        0.0,
        "makes TRL keep whole logits, which the trace does not have",
        "leave it out",
    ),
    (
        "auto_find_batch_size",
        False,
        "changes the global batch when memory runs out",
        "leave it out: guard() keeps it",
    ),
    ("fp16", False, "is autocast to float16, which is traced of float16 weights alone", "use bf16=True"),
    ("deepspeed", None, "shards what the trace has whole", "use one card without it"),
    ("fsdp", None, "shards what the trace has whole", "use one card without it"),
)


@dataclass(frozen=True)
class Request:
    """spec: as a job; own: the rung that the config has now; notes: what a reader of the projection must know."""

    spec: JobSpec
    own: Rung
    notes: tuple[str, ...]


def request_of(config: Any, model: Any, peft_config: Any = None, confidence: float = 0.95) -> Request:
    """What is to be trained. Raises SpecError with every fault: trainers and options that can't be projected."""
    trainer = TRAINERS.get(type(config))
    if trainer is None:
        known = ", ".join(one.__name__ for one in TRAINERS)
        problem = "is no configuration that fit can project"
        raise SpecError([Fault("config", type(config).__name__, problem, f"use one of trl's {known}")], "fit")
    faults, notes = _config_faults(config), list[str]()
    model_part = _model(config, model, faults)
    method = _method(model, peft_config, model_part, faults)
    if faults:
        raise SpecError(faults, "fit")
    if config.eval_strategy != "no":
        notes.append("evaluation is projected without compute_metrics, which would keep whole logits")
    own = _own_rung(config)
    value = {
        "model": model_part,
        "data": {"path": "of the script", "holdout": 0.1 if config.eval_strategy != "no" else 0.0},
        "trainer": trainer,
        "method": method,
        "training": {
            "sequence_length": config.max_length,
            "global_batch": own.micro_batch * own.accumulation,
            "packing": config.packing,
            "optimizer": str(getattr(config.optim, "value", config.optim)),
            "autocast": "bfloat16" if config.bf16 and model_part["dtype"] == "float32" else _autocast(config),
            "weight_decay": min(1.0, config.weight_decay),
            "neftune_alpha": config.neftune_noise_alpha or None,
            **_duration(config),
        },
        "memory": {"confidence": confidence},
    }
    try:
        return Request(parse_spec(value, "fit"), own, tuple(notes))
    except SpecError as error:
        raise in_a_script(error) from None


def in_a_script(error: SpecError) -> SpecError:
    """The same faults, with the names that a script has for what a job file calls otherwise."""
    faults = [
        Fault(_IN_A_SCRIPT.get(one.path, one.path), one.given, one.problem, one.fix) for one in error.faults
    ]
    return SpecError(faults, "fit")


def _autocast(config: Any) -> str:
    return "auto" if config.bf16 else "off"


def _duration(config: Any) -> dict[str, Any]:
    if config.max_steps > 0:
        return {"steps": config.max_steps}
    return {"epochs": config.num_train_epochs}


def _own_rung(config: Any) -> Rung:
    kwargs = config.activation_checkpointing_kwargs or {}
    every = int(kwargs.get("every_n_layers", 1)) if config.activation_checkpointing else 0
    offload = bool(every and kwargs.get("offload", False))
    return Rung(every, config.per_device_train_batch_size, config.gradient_accumulation_steps, offload)


def _config_faults(config: Any) -> list[Fault]:
    name = type(config).__name__
    found = [
        Fault(f"{name}.{field}", str(getattr(config, field)), problem, fix)
        for field, fine, problem, fix in _REFUSED
        if (getattr(config, field, fine) or fine) != fine
    ]
    if not config.max_length:
        found.append(
            Fault(
                f"{name}.max_length", str(config.max_length), "gives no longest row", "set it, such as 2048"
            )
        )
    optim = str(getattr(config.optim, "value", config.optim))
    if optim not in {*OPTIMIZERS, *OPTIMIZERS.values(), "adamw_torch"}:
        known = ", ".join(["adamw_torch", *OPTIMIZERS.values()])
        found.append(
            Fault(f"{name}.optim", optim, "has state whose size is not known", f"use one of {known}")
        )
    if config.packing and config.packing_strategy not in ("bfd", "bfd_split"):
        found.append(
            Fault(
                f"{name}.packing_strategy", config.packing_strategy, "is not traced", "use bfd or bfd_split"
            )
        )
    if config.n_gpu > 1:
        fix = "set CUDA_VISIBLE_DEVICES to one of them"
        found.append(
            Fault("cards", str(config.n_gpu), "are one process's, which transformers splits rows over", fix)
        )
    if config.world_size > 1:
        fix = "use one, or a job file, which plans for several"
        found.append(Fault("processes", str(config.world_size), "train together; fit is for one", fix))
    return found


def _model(config: Any, model: Any, faults: list[Fault]) -> dict[str, Any]:
    """The model section. Adds to faults what can't be projected."""
    if isinstance(model, PeftModel):
        model = model.get_base_model()
    if isinstance(model, PreTrainedModel):
        return _loaded(config, model, faults)
    if not isinstance(model, (str, os.PathLike)):
        problem, fix = "is no model", "give a hub id, a folder, or a model that transformers made"
        faults.append(Fault("model", type(model).__name__, problem, fix))
        return {"path": "none", "dtype": "bfloat16"}
    given = dict(config.model_init_kwargs or {})
    dtype = given.pop("dtype", given.pop("torch_dtype", None) or _TRL_DEFAULT_DTYPE)
    made: dict[str, Any] = {
        "path": os.fspath(model),
        "attention": given.pop("attn_implementation", None) or "sdpa",
    }
    made["trust_remote_code"] = bool(given.pop("trust_remote_code", False) or config.trust_remote_code)
    if revision := given.pop("revision", None):
        made["revision"] = revision
    made["dtype"] = _dtype(dtype, made, faults)
    made["quantization"] = _quantization(given.pop("quantization_config", None), faults)
    _device_map(given.pop("device_map", None), faults)
    for name in sorted({*given} - _HARMLESS_INIT):
        fix = "load the model yourself, and give it to fit and to the trainer"
        faults.append(Fault(f"model_init_kwargs.{name}", str(given[name])[:60], "is not traced", fix))
    return _attention(made, faults)


def _loaded(config: Any, model: PreTrainedModel, faults: list[Fault]) -> dict[str, Any]:
    if config.model_init_kwargs:
        fix = "leave them out: the model is loaded already"
        faults.append(
            Fault("model_init_kwargs", str(config.model_init_kwargs)[:60], "mean nothing here", fix)
        )
    values = model.config.to_dict()
    packed = _quantization(values.pop("quantization_config", None), faults)
    kinds = {one.dtype for one in model.parameters() if one.is_floating_point()}
    dtype = "bfloat16"
    if not packed and len(kinds) > 1:
        names = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        faults.append(
            Fault("model", names, "has weights of several types", "load it in one, such as dtype='bfloat16'")
        )
    else:
        dtype = _dtype(model.dtype, {}, faults)
    devices = {str(one.device) for one in model.parameters()}
    if len(devices) > 1:
        faults.append(
            Fault("model", ", ".join(sorted(devices)), "is spread over several devices", "load it on one")
        )
    name = model.config.name_or_path or "none"
    attention = model.config._attn_implementation or "eager"
    # The type that it was saved in: what a trace builds it in is dtype.
    kept = {
        key: value
        for key, value in values.items()
        if key not in ("dtype", "torch_dtype") and value is not None
    }
    made = {"config": {**kept, "model_type": model.config.model_type}, "tokenizer": name, "dtype": dtype}
    return _attention({**made, "attention": attention, "quantization": packed}, faults)


def _attention(made: dict[str, Any], faults: list[Fault]) -> dict[str, Any]:
    if made["attention"] not in ATTENTIONS:
        fix = f"use one of {', '.join(ATTENTIONS)}"
        faults.append(Fault("model.attn_implementation", str(made["attention"]), "is not traced", fix))
        made["attention"] = "sdpa"
    return made


def _dtype(given: Any, made: Mapping[str, Any], faults: list[Fault]) -> str:
    if given == "auto":
        known = AutoConfig.from_pretrained(
            made["path"], revision=made.get("revision"), trust_remote_code=made["trust_remote_code"]
        ).get_text_config()
        given = known.dtype or torch.float32
    name = DTYPES.get(given, given) if isinstance(given, torch.dtype) else str(given)
    if name not in DTYPES.values():
        fix = f"use one of {', '.join(DTYPES.values())}"
        faults.append(Fault("model.dtype", str(given), "is no type that is trained in", fix))
        return "bfloat16"
    return str(name)


def _device_map(given: Any, faults: list[Fault]) -> None:
    if given in (None, "auto", "cuda", "cpu", 0) or (isinstance(given, Mapping) and [*given] == [""]):
        return
    faults.append(Fault("model_init_kwargs.device_map", str(given)[:60], "spreads the model", "leave it out"))


def _quantization(given: Any, faults: list[Fault]) -> bool:
    """Whether the base is packed in 4 bits, as QLoRA has it."""
    if given is None:
        return False
    values = given if isinstance(given, Mapping) else given.to_dict()
    wanted = {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16",
    }
    for name, right in wanted.items():
        have = str(values.get(name)).removeprefix("torch.")
        if have != str(right):
            faults.append(
                Fault(f"quantization_config.{name}", have, "is not traced", f"use {name}={right!r}")
            )
    return True


def _method(model: Any, peft_config: Any, made: dict[str, Any], faults: list[Fault]) -> dict[str, Any]:
    """The method section; takes what _model() found of quantisation out of the model's."""
    packed = made.pop("quantization", False)
    if isinstance(model, PeftModel):
        if peft_config is not None:
            faults.append(
                Fault("peft_config", type(peft_config).__name__, "stands beside a PeftModel", "leave it out")
            )
        peft_config = model.peft_config[model.active_adapter]
    elif isinstance(model, PreTrainedModel) and peft_config is None:
        frozen = sum(not one.requires_grad for one in model.parameters())
        if frozen and not packed:
            problem = "of its weights are frozen, and no peft_config says why"
            faults.append(Fault("model", str(frozen), problem, "train all of them, or give peft_config"))
    if peft_config is None:
        if packed:
            faults.append(Fault("peft_config", "", "is required with 4-bit weights", "give a LoraConfig"))
        return {"kind": "full"}
    if not isinstance(peft_config, LoraConfig):
        problem = "is no LoraConfig, the one kind of adapter that is traced"
        faults.append(Fault("peft_config", type(peft_config).__name__, problem, "use peft.LoraConfig"))
        return {"kind": "lora"}
    for field in fields(peft_config):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        value = getattr(peft_config, field.name)
        if field.name not in _KNOWN_LORA and value != default and value and value != "none":
            faults.append(
                Fault(f"peft_config.{field.name}", str(value)[:60], "is not traced", "leave it out")
            )
    if peft_config.init_lora_weights not in (True, False, "gaussian", "orthogonal"):
        problem, fix = "works on whole weights before the first step, which is not traced", "leave it out"
        faults.append(
            Fault("peft_config.init_lora_weights", str(peft_config.init_lora_weights), problem, fix)
        )
    return {
        "kind": "qlora" if packed else "lora",
        "rank": peft_config.r,
        "alpha": float(peft_config.lora_alpha),
        "dropout": peft_config.lora_dropout,
        "targets": _targets(peft_config, model, made, faults),
        "dora": peft_config.use_dora,
        "rslora": peft_config.use_rslora,
        "exclude": _names(peft_config.exclude_modules, "exclude_modules", faults),
        "modules_to_save": list(peft_config.modules_to_save or []),
        "ensure_weight_tying": peft_config.ensure_weight_tying,
        "rank_pattern": dict(peft_config.rank_pattern or {}),
        "alpha_pattern": {name: float(value) for name, value in (peft_config.alpha_pattern or {}).items()},
    }


def _names(given: Any, field: str, faults: list[Fault]) -> list[str]:
    if isinstance(given, str):
        problem = "is a pattern, of which the trace does not know what it meets"
        faults.append(Fault(f"peft_config.{field}", given, problem, "name the modules in a list"))
        return []
    return sorted(given or [])


def _targets(peft_config: LoraConfig, model: Any, made: Mapping[str, Any], faults: list[Fault]) -> Any:
    given = peft_config.target_modules
    if given is None:
        kind = (made.get("config") or {}).get("model_type")
        if kind is None:
            kind = AutoConfig.from_pretrained(
                made["path"], trust_remote_code=made["trust_remote_code"]
            ).model_type
        given = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(kind)
        if given is None:
            fix = "set target_modules='all-linear', or name them"
            faults.append(Fault("peft_config.target_modules", "", f"are not known for {kind} models", fix))
            return "all-linear"
    if isinstance(given, str) and given != "all-linear":
        problem = "is a pattern, of which the trace does not know what it meets"
        faults.append(Fault("peft_config.target_modules", given, problem, "name the modules in a list"))
        return "all-linear"
    return given if isinstance(given, str) else sorted(given)
