"""TRL 1.16 (trl/scripts): a YAML file for `trl sft --config`, and what a script with TRL says."""

from __future__ import annotations

from typing import Any

from jobs.convert import values as v
from jobs.convert.draft import Draft
from jobs.convert.formats import huggingface as hf
from jobs.convert.rules import Left, Not, Rule, To, apply
from jobs.jobfile.sections.base import Section
from jobs.jobfile.sections.dpo import DpoSpec
from jobs.jobfile.sections.kto import KtoSpec
from jobs.jobfile.sections.reward import RewardSpec

_QUANTISED = "a 4-bit base is NF4 with double quantisation, computing in bfloat16"

TABLE: dict[str, Rule] = {
    **hf.TABLE,
    "model_name_or_path": To("model.path", v.text),
    "tokenizer_name": To("model.tokenizer", v.text),
    "model_revision": To("model.revision", v.text),
    "attn_implementation": To("model.attention", v.attention),
    "trust_remote_code": To("model.trust_remote_code", v.truth),
    "dataset_name": To("data.path", v.text),
    "dataset_config": Not("a job's data is one file, folder or hub id"),
    "dataset_train_split": To("data.split", v.text),
    "dataset_streaming": Not("data is read whole, not streamed"),
    "datasets": Not("a job has one data set: give dataset_name"),
    "dataset_text_field": Not("rows need text: rename the column", neutral=("text",)),
    "dataset_kwargs": Not("how rows reach the trainer is tuneyard's"),
    "dataset_num_proc": Left(hf.LOADED),
    "shuffle_dataset": Left("rows come in random order"),
    "use_peft": Left("read with the method"),
    "lora_r": To("method.rank", v.whole),
    "lora_alpha": To("method.alpha", v.number),
    "lora_dropout": To("method.dropout", v.number),
    "lora_target_modules": To("method.targets", v.targets),
    "lora_modules_to_save": To("method.modules_to_save", v.names),
    "lora_target_parameters": Not("adapters are of linear layers"),
    "lora_task_type": Not("adapters are of language models", neutral=("CAUSAL_LM",)),
    "lora_init": To("method.init", v.lora_init),
    "lora_rank_pattern": To("method.rank_pattern"),
    "lora_alpha_pattern": To("method.alpha_pattern"),
    "lora_exclude_modules": To("method.exclude", v.names),
    "lora_ensure_weight_tying": To("method.ensure_weight_tying", v.truth),
    "lora_bias": Not("biases stay as they are", neutral=("none",)),
    "use_rslora": To("method.rslora", v.truth),
    "use_dora": To("method.dora", v.truth),
    "load_in_8bit": Not("a base is in its own type or in 4 bits"),
    "bnb_4bit_quant_type": Not(_QUANTISED, neutral=("nf4",)),
    "use_bnb_nested_quant": Not(_QUANTISED, neutral=(True,)),
    "bnb_4bit_compute_dtype": Not(_QUANTISED, neutral=("bfloat16",)),
    "bnb_4bit_quant_storage": Not(_QUANTISED),
    "max_length": To("training.sequence_length", v.whole),
    "truncation_mode": Not("rows are cut at their end", neutral=("keep_start",)),
    "packing": To("training.packing", v.truth),
    "packing_strategy": Not("rows are packed by best fit, none is cut in the middle", neutral=("bfd",)),
    "eval_packing": Left("rows held out are packed as the others are"),
    "padding_free": Not("rows are padded to the longest of their batch, or packed"),
    "pad_to_multiple_of": Not("rows are padded to the longest of their batch"),
    "pad_token": Left("padding is never learned from"),
    "eos_token": To("model.eos_token", v.text),
    "chat_template_path": To("model.chat_template", v.template),
    "completion_only_loss": Not("of prompt and completion the completion is learned from", neutral=(True,)),
    "loss_type": To("training.loss", lambda value: "nll" if value == "chunked_nll" else value),
    "activation_offloading": Left(hf.PLANNED),
    "model_init_kwargs": Not("model.dtype, model.attention and model.revision are keys of their own"),
    "device_map": Left("a rank's model is on its card"),
    "low_cpu_mem_usage": Left("the model is loaded tensor by tensor"),
    "use_unsloth": To("model.engine", lambda _: "unsloth"),
    "use_cache": Left("training has no cache"),
    "router_aux_loss_coef": Not("the balancing loss is the model's own"),
    "ignore_bias_buffers": Left("ranks are of DDP"),
    "env": Not("secrets are the project's; what a host sets is its operator's"),
}
# TRL's ModelConfig, and PEFT's LoraConfig in a script.
LORA = {
    "file": {"rank": 16, "alpha": 32, "dropout": 0.05},
    "script": {"rank": 8, "alpha": 8, "dropout": 0.0},
}
# PEFT's choice for these architectures and most that are like them; the file does not say which it is.
_PEFT_TARGETS = ["q_proj", "v_proj"]
# Trainers that are carried over, and their learning rates (TRL 1.16).
RATES = {"sft": 2e-5, "dpo": 1e-6, "kto": 1e-6, "reward": 1e-4}
_SECTIONS: dict[str, type[Section]] = {"dpo": DpoSpec, "kto": KtoSpec, "reward": RewardSpec}
# Fields of trainers that are not.
_OTHERS = (
    "num_generations",
    "max_completion_length",
    "reward_funcs",
    "use_vllm",
    "teacher_model_name_or_path",
)


def convert(draft: Draft, way: str = "file", trainer: str = "sft") -> None:
    """Everything that the file says. way: "file", or "script" for one whose adapters are a LoraConfig's; trainer: whose
    configuration it is, which a file does not say."""
    for key in draft.has(*_OTHERS):
        fix = "write the job file's trainer and its section by hand"
        draft.refuse(key, f"is of another trainer; {', '.join(RATES)} are carried over", fix)
    _trainer(draft, trainer)
    _method(draft, way)
    hf.together(draft, batch=8, epochs=3, learning_rate=RATES[trainer])
    _precision(draft)
    _evaluation(draft)
    if trainer == "sft":
        _loss(draft)
    if not draft.has("max_length"):
        if "max_length" in draft.values:
            problem = "gives no longest row, which a projection takes"
            draft.refuse("max_length", problem, "set it, such as 4096")
        draft.default("training.sequence_length", 1024, "max_length 1024")
    apply(TABLE, draft)


def _trainer(draft: Draft, trainer: str) -> None:
    """The trainer, and its own section: names and defaults there are TRL's."""
    own = set(_SECTIONS[trainer].model_fields) if trainer in _SECTIONS else set()
    elsewhere = (
        {name for section in _SECTIONS.values() for name in section.model_fields} - own - {"loss_type"}
    )
    for key in draft.has(*sorted(elsewhere)):
        whose = " or ".join(name for name, section in _SECTIONS.items() if key in section.model_fields)
        draft.refuse(
            key, f"is of `trl {whose}`, and this is read as of `trl {trainer}`", "say --trainer NAME"
        )
    if trainer == "sft":
        return
    draft.put("trainer", trainer)
    for key in draft.has(*sorted(own)):
        draft.map(key, f"{trainer}.{key}", draft.values[key])
    if trainer == "reward" and draft.get("lora_task_type") == "SEQ_CLS":
        draft.leave("lora_task_type", "a reward model has a score for its head")


def _loss(draft: Draft) -> None:
    """What is learned from."""
    if draft.get("assistant_only_loss", False) is True:
        draft.map("assistant_only_loss", "data.loss_on", "assistant")
    elif draft.get("completion_only_loss") is False:
        draft.map("completion_only_loss", "data.loss_on", "all")
    else:
        draft.defaults.append("assistant_only_loss false: where rows are messages, set data.loss_on: all")
    draft.leave("assistant_only_loss", "asks for nothing")


def _method(draft: Draft, way: str) -> None:
    peft, four = draft.get("use_peft", False), draft.get("load_in_4bit", False)
    if four and not peft:
        draft.refuse(
            "load_in_4bit", "trains a base in 4 bits whole, which can't be done", "set use_peft: true"
        )
    kind = "qlora" if peft and four else "lora" if peft else "full"
    draft.put("method.kind", kind)
    draft.map(draft.has("use_peft", "load_in_4bit"), "method.kind", kind)
    if kind == "full":
        others = [key for key in draft.values if key.startswith("lora_") or key in ("use_dora", "use_rslora")]
        draft.leave(others, "there is no adapter")
        return
    for path, value in LORA[way].items():
        key = "lora_r" if path == "rank" else f"lora_{path}"
        if not draft.has(key):
            draft.default(f"method.{path}", value, f"{key} {value}")
    if not draft.has("lora_target_modules"):
        said = (
            "lora_target_modules: PEFT's for llama, qwen2, mistral and gemma; other architectures have others"
        )
        draft.default("method.targets", _PEFT_TARGETS, said)
    if kind == "qlora" and not draft.has("use_bnb_nested_quant"):
        draft.defaults.append("use_bnb_nested_quant false: here the base has double quantisation")


def _precision(draft: Draft) -> None:
    key = "dtype" if draft.has("dtype") else "torch_dtype"
    weights: Any = draft.get(key, "float32")
    weights = str(weights).removeprefix("torch.")
    if weights not in ("float32", "bfloat16", "float16"):
        draft.unmet(key, "is the type that the model was saved in: bfloat16 is used")
        weights = "bfloat16"
    draft.map(key, "model.dtype", weights)
    if draft.get("fp16", False) is True and weights != "float16":
        draft.unmet("fp16", "is for weights in float16 alone; bfloat16 is used")
    bf16 = draft.get("bf16", not draft.get("fp16", False))
    draft.put("model.dtype", weights)
    if weights == "float32":
        draft.put("training.autocast", "bfloat16" if bf16 else "off")
        draft.map(["bf16", "fp16"], "training.autocast", "bfloat16" if bf16 else "off")
    elif weights == "bfloat16" and not bf16:
        draft.map(["bf16", "fp16"], "training.autocast", "off")
    elif weights == "float16" and bf16 is True and draft.has("bf16"):
        draft.unmet("bf16", "does not go with weights in float16, which autocast to it")
    draft.leave(["bf16", "fp16"], "products run in the weights' own type")


def _evaluation(draft: Draft) -> None:
    wanted = str(draft.get("eval_strategy", "no")) != "no"
    if wanted:
        keys = ["eval_strategy", "eval_steps", "dataset_test_split"]
        draft.unmet(keys, "rows are held out of the data: set data.holdout to a share of them")
    draft.leave(["dataset_test_split", "eval_strategy", "eval_steps"], "nothing is evaluated")
    if draft.get("load_best_model_at_end", False) is True:
        draft.unmet("load_best_model_at_end", "set training.keep_best beside data.holdout")
    draft.leave("load_best_model_at_end", "asks for nothing")
