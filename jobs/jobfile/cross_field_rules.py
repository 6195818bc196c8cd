"""Rules between a job file's values. They read raw values, so that they are checked beside every other fault.

A value of the wrong type is another check's fault: a rule that needs it is silent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from jobs.errors import Fault
from jobs.jobfile.options import adapters, columns, extra, schedulers
from jobs.jobfile.overrides import SHORTHAND

Given = Mapping[str, Any]

SECTIONS = (
    *("model", "data", "method", "training", "dpo", "kto", "reward"),
    *("memory", "resources", "sweep"),
)
# What only LoRA has, with its defaults: a value that stands at its default is not held against `full`.
LORA_DEFAULTS: dict[str, Any] = {
    "rank": 16,
    "alpha": 32,
    "dropout": 0.0,
    "targets": "all-linear",
    "dora": False,
    "rslora": False,
    "adapter_dtype": "auto",
    "exclude": [],
    "modules_to_save": [],
    "ensure_weight_tying": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "init": "default",
}
_NOT_UNSLOTHS = ("exclude", "modules_to_save", "ensure_weight_tying", "rank_pattern", "alpha_pattern", "init")
DEFAULT_BATCH = 8
WARMUP_RATIO = 0.03
# Of an architecture's config, as most of transformers' model types name them.
SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)


class RuleError(ValueError):
    """A rule that does not hold, raised while a section is built; carries the faults."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


def hold(faults: list[Fault]) -> None:
    """Raise RuleError unless there are no faults."""
    if faults:
        raise RuleError(faults)


def written_out(value: Any) -> Any:
    """A job file's mapping with each section as keys: plain text stands for its SHORTHAND, an empty one for {}."""
    if not isinstance(value, dict):
        return {} if value is None else value
    made = {**value}
    for name in made:
        given = made[name]
        if given is None and name in SECTIONS:
            made[name] = {}
        elif isinstance(given, str) and name in SHORTHAND:
            made[name] = {SHORTHAND[name]: given}
    return made


def faults(sections: Mapping[str, Given]) -> list[Fault]:
    """Every rule that these sections break; one that is not there is either optional, or reported as missing."""
    found: list[Fault] = []
    for name, rule in SECTION_RULES.items():
        if name in sections:
            found += rule(sections[name])
    model, method = sections.get("model", {}), sections.get("method", {})
    training, memory = sections.get("training", {}), sections.get("memory", {})
    found += evaluation_faults(sections.get("data", {}), training)
    found += dtype_faults(model, method)
    found += attention_faults(model, training)
    found += autocast_faults(model, method, training)
    found += engine_faults(model, method, memory)
    found += sweep_faults(sections.get("sweep", {}), training)
    return found + batch_faults(training, memory, sections.get("resources", {}))


def model_faults(model: Given) -> list[Fault]:
    """One source of weights; a config needs a model type, and a tokenizer from elsewhere."""
    path, config = model.get("path"), model.get("config")
    if (path is None) == (config is None):
        what = "neither" if path is None else "both"
        fix = "give exactly one: path (hub id or folder) or config (architecture values)"
        return [Fault("model", "", f"has {what} path {'nor' if path is None else 'and'} config", fix)]
    faults = []
    if isinstance(config, dict):
        if not isinstance(config.get("model_type"), str):
            given = str(config["model_type"]) if "model_type" in config else ""
            faults.append(Fault("model.config.model_type", given, "is required", "for example llama"))
        faults += [replace(wrong, path=f"model.config.{wrong.path}") for wrong in architecture_faults(config)]
        if model.get("tokenizer") is None:
            fix = "a model from config has none of its own; give a hub id or folder"
            faults.append(Fault("model.tokenizer", "", "is required", fix))
    return faults


def architecture_faults(config: Given) -> list[Fault]:
    """Sizes that no model can have.

    One that is left out is the model type's own; a list or mapping is of unlike layers.
    """
    given = {name: config[name] for name in SIZES if config.get(name) is not None}
    faults = [
        Fault(name, str(size), "is no size", "write a whole number from 1")
        for name, size in given.items()
        if not _count(size) and not isinstance(size, (list, dict))
    ]
    heads: Any = given.get("num_attention_heads")
    shared: Any = given.get("num_key_value_heads")
    if _count(heads) and _count(shared) and heads % shared:
        fits = max(k for k in range(1, shared) if heads % k == 0)
        fix = f"use a divisor of num_attention_heads, such as {fits}"
        problem = f"can't be shared by {heads} attention heads"
        faults.append(Fault("num_key_value_heads", str(shared), problem, fix))
    return faults


def method_faults(method: Given) -> list[Fault]:
    """What only LoRA has is not set for full; names and ranks of modules."""
    if method.get("kind") != "full":
        return adapters.faults(method)
    return [
        Fault(f"method.{name}", str(method[name]), "only applies to lora and qlora", "leave it out for full")
        for name, default in LORA_DEFAULTS.items()
        if method.get(name, default) != default
    ]


def training_faults(training: Given) -> list[Fault]:
    """One length, one warm-up; options that the schedule and TRL's configuration have."""
    found = [*schedulers.faults(training), *extra.faults(training)]
    if training.get("epochs") is not None and training.get("steps") is not None:
        found.append(
            Fault("training.steps", str(training["steps"]), "stands beside epochs", "give one of the two")
        )
    ratio, steps = training.get("warmup_ratio", WARMUP_RATIO), training.get("warmup_steps")
    if steps is not None and ratio != WARMUP_RATIO:
        found.append(
            Fault("training.warmup_steps", str(steps), "stands beside warmup_ratio", "give one of the two")
        )
    return found


def memory_faults(memory: Given) -> list[Fault]:
    """Nothing to offload without checkpointing."""
    if memory.get("offload") is not True or memory.get("checkpointing") != "off":
        return []
    fix = "set memory.checkpointing to auto, every_layer or {every_n: k}, or leave offload out"
    return [Fault("memory.offload", "true", "needs checkpointing, which is off", fix)]


def evaluation_faults(data: Given, training: Given) -> list[Fault]:
    """Nothing to evaluate on without a holdout."""
    if data.get("holdout", 0.0) not in (0, None):
        return []
    return [
        Fault(
            f"training.{name}",
            str(training[name]) if isinstance(training[name], (int, float)) else "",
            "has no rows to evaluate on",
            f"set data.holdout to the share of rows to evaluate on, such as 0.05, or leave {name} out",
        )
        for name in ("eval_steps", "early_stopping", "keep_best")
        if training.get(name) not in (None, False)
    ]


def dtype_faults(model: Given, method: Given) -> list[Fault]:
    """A full fine-tune updates the weights in their own dtype, and float16 rounds small updates away."""
    if method.get("kind") != "full" or model.get("dtype") != "float16":
        return []
    fix = "use float32 with training.autocast: bfloat16, or train with lora"
    return [Fault("model.dtype", "float16", "loses the small updates of a full fine-tune", fix)]


def autocast_faults(model: Given, method: Given, training: Given) -> list[Fault]:
    """One half-precision type a job; float16 scales its gradients, which only float32 adapters can take."""
    if model.get("dtype") != "float16":
        return []
    autocast = training.get("autocast", "auto")
    if autocast == "bfloat16":
        fix = "set model.dtype: bfloat16, or leave training.autocast out"
        return [Fault("training.autocast", "bfloat16", "does not go with float16 weights", fix)]
    dtype = method.get("adapter_dtype", "auto")
    half = dtype == "bfloat16" or (dtype == "auto" and method.get("kind") == "qlora")
    if autocast == "auto" and half and method.get("kind") != "full":
        problem = "gives bfloat16 adapters, whose gradients float16 training can't scale"
        fix = "set model.dtype: bfloat16, or method.adapter_dtype: float32"
        return [Fault("model.dtype", "float16", problem, fix)]
    return []


def attention_faults(model: Given, training: Given) -> list[Fault]:
    """flash-attn has no kernels for float32."""
    if model.get("attention") != "flash_attention_2" or model.get("dtype") != "float32":
        return []
    if training.get("autocast") == "bfloat16":
        return []
    problem = "has no kernels for float32"
    fix = "set model.dtype or training.autocast to bfloat16, or attention to sdpa"
    return [Fault("model.attention", "flash_attention_2", problem, fix)]


def sweep_faults(sweep: Given, training: Given) -> list[Fault]:
    """An early stop comes before the end."""
    early, steps = sweep.get("early_stop"), training.get("steps")
    after: Any = early.get("after_steps") if isinstance(early, Mapping) else getattr(early, "after_steps", 0)
    if not _count(after) or not _count(steps) or steps is None or after < steps:
        return []
    fix = (
        f"use less than training.steps, {steps}, or leave early_stop out"
        if steps > 1
        else "leave early_stop out"
    )
    return [Fault("sweep.early_stop.after_steps", str(after), "comes when every job has ended", fix)]


def engine_faults(model: Given, method: Given, memory: Given) -> list[Fault]:
    """What Unsloth can't do: random weights, code of a model's own, DoRA, every n-th layer."""
    if model.get("engine") != "unsloth":
        return []
    found = []
    if model.get("config") is not None:
        fix = "give model.path in place of model.config, or use engine: transformers"
        found.append(Fault("model.engine", "unsloth", "can't start from random weights", fix))
    if method.get("dora") is True:
        fix = "leave dora out, or use engine: transformers"
        found.append(Fault("method.dora", "true", "is not in Unsloth's kernels", fix))
    for name in _NOT_UNSLOTHS:
        if method.get("kind") != "full" and method.get(name, LORA_DEFAULTS[name]) != LORA_DEFAULTS[name]:
            problem = "is not passed on to Unsloth"
            fix = "leave it out, or use engine: transformers"
            found.append(Fault(f"method.{name}", str(method[name]), problem, fix))
    checkpointing = memory.get("checkpointing", "auto")
    if isinstance(checkpointing, dict) and checkpointing.get("every_n") != 1:
        fix = "use auto, off or every_layer, or engine: transformers"
        problem = "can't be had with Unsloth, which checkpoints every layer or none"
        found.append(Fault("memory.checkpointing", str(checkpointing), problem, fix))
    return found


def batch_faults(training: Given, memory: Given, resources: Given) -> list[Fault]:
    """The global batch divides over the GPUs, and a GPU's share over micro-batches."""
    batch, gpus = training.get("global_batch", DEFAULT_BATCH), resources.get("gpus", 1)
    micro = memory.get("micro_batch", "auto")
    if not _count(batch) or not _count(gpus):
        return []
    if batch % gpus:
        near = sorted({max(gpus, batch // gpus * gpus), (batch // gpus + 1) * gpus})
        fix = f"use {' or '.join(map(str, near))}"
        return [Fault("training.global_batch", str(batch), f"is not divisible by resources.gpus {gpus}", fix)]
    share = batch // gpus
    if _count(micro) and share % micro:
        below = next(k for k in range(min(micro, share), 0, -1) if share % k == 0)
        above = next((k for k in range(micro, share + 1) if share % k == 0), below)
        fix = f"use {below} or {above}" if above != below else f"use {below}"
        return [Fault("memory.micro_batch", str(micro), f"does not divide the batch per GPU, {share}", fix)]
    return []


SECTION_RULES: dict[str, Callable[[Given], list[Fault]]] = {
    "model": model_faults,
    "data": columns.faults,
    "method": method_faults,
    "training": training_faults,
    "memory": memory_faults,
}


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
