"""LLaMA-Factory 0.9.5 (src/llamafactory/hparams): a YAML file for `llamafactory-cli train`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.convert import values as v
from jobs.convert.draft import Draft, NotHonoured
from jobs.convert.formats import huggingface as hf
from jobs.convert.rules import Left, Not, Rule, To, apply

_TOKENS = "the tokenizer is used as it is: save one that has them"
_IMAGES = "images, video and audio are not trained on"
_OPTIMIZERS = "optimizers are AdamW (8-bit and paged too) and SGD"
_LOSSES = "losses are TRL's"
_PREFERENCES = "is of preference training, and this stage has none"
_FREEZE = "all weights are trained, or adapters"
_INFERENCE = "a job trains; it does not predict"
_QUANTISED = "of the ways to pack a base only NF4 by bitsandbytes is there"

TABLE: dict[str, Rule] = {
    **hf.TABLE,
    "model_name_or_path": To("model.path", v.text),
    "model_revision": To("model.revision", v.text),
    "trust_remote_code": To("model.trust_remote_code", v.truth),
    "adapter_name_or_path": Not("adapters begin anew"),
    "create_new_adapter": Left("adapters begin anew"),
    "use_fast_tokenizer": Left("tokenizers are fast where the model has one"),
    "low_cpu_mem_usage": Left("the model is loaded tensor by tensor"),
    "resize_vocab": Not(_TOKENS),
    "add_tokens": Not(_TOKENS),
    "add_special_tokens": Not(_TOKENS),
    "new_special_tokens_config": Not(_TOKENS),
    "split_special_tokens": Not(_TOKENS),
    "rope_scaling": Not("positions are the model's own"),
    "flash_attn": To("model.attention", v.attention),
    "shift_attn": Not("attention is sdpa, eager or flash_attention_2"),
    "mixture_of_depths": Not("the model's layers stay as they are"),
    "enable_liger_kernel": Not("TRL computes the loss in tiles without it"),
    "use_v1_kernels": Not("layers are those of transformers"),
    "disable_gradient_checkpointing": Left(hf.PLANNED),
    "use_reentrant_gc": Left(hf.PLANNED),
    "use_unsloth_gc": Left(hf.PLANNED),
    "upcast_layernorm": Not("norms stay in the weights' type"),
    "upcast_lmhead_output": Left("TRL computes the loss in float32"),
    "train_from_scratch": Not("give model.config for random weights"),
    "moe_aux_loss_coef": Not("the balancing loss is the model's own"),
    "infer_backend": Left(_INFERENCE),
    "infer_dtype": Left(_INFERENCE),
    "print_param_status": Left(hf.LOGGED),
    "image_max_pixels": Not(_IMAGES),
    "video_max_pixels": Not(_IMAGES),
    "freeze_vision_tower": Not(_IMAGES),
    "freeze_multi_modal_projector": Not(_IMAGES),
    "freeze_language_model": Not(_IMAGES),
    "media_dir": Not(_IMAGES),
    "lora_rank": To("method.rank", v.whole),
    "lora_alpha": To("method.alpha", v.number),
    "lora_dropout": To("method.dropout", v.number),
    "lora_target": To("method.targets", v.targets),
    "additional_target": To("method.modules_to_save", v.names),
    "use_dora": To("method.dora", v.truth),
    "use_rslora": To("method.rslora", v.truth),
    "pissa_init": Not("adapters begin as default, gaussian or orthogonal"),
    "pissa_iter": Not("adapters begin as PEFT has it"),
    "pissa_convert": Not("adapters begin as PEFT has it"),
    "loraplus_lr_ratio": Not("one learning rate serves both matrices"),
    "freeze_trainable_layers": Not(_FREEZE),
    "freeze_trainable_modules": Not(_FREEZE),
    "freeze_extra_modules": Not(_FREEZE),
    "use_llama_pro": Not(_FREEZE),
    "use_galore": Not(_OPTIMIZERS),
    "use_apollo": Not(_OPTIMIZERS),
    "use_badam": Not(_OPTIMIZERS),
    "use_adam_mini": Not(_OPTIMIZERS),
    "use_muon": Not(_OPTIMIZERS),
    "use_dft_loss": To("training.loss", lambda value: "dft" if v.truth(value) else "nll"),
    "use_asft_loss": Not(_LOSSES),
    "use_eaft_loss": Not(_LOSSES),
    "pure_bf16": Left("read with bf16"),
    "plot_loss": Left("`tuneyard metrics` and `report` draw the loss"),
    "compute_accuracy": Not("evaluation is the loss"),
    "predict_with_generate": Not(_INFERENCE),
    "do_predict": Not(_INFERENCE),
    "disable_shuffling": Not("rows come in random order"),
    "cutoff_len": To("training.sequence_length", v.whole),
    "mask_history": Not("all turns of the assistant are learned from"),
    "streaming": Not("data is read whole, not streamed"),
    "buffer_size": Not("data is read whole, not streamed"),
    "mix_strategy": Not("a job has one data set", neutral=("concat",)),
    "interleave_probs": Not("a job has one data set"),
    "overwrite_cache": Left(hf.LOADED),
    "preprocessing_num_workers": Left(hf.LOADED),
    "preprocessing_batch_size": Left(hf.LOADED),
    "tokenized_path": Left(hf.LOADED),
    "data_shared_file_system": Left(hf.LOADED),
    "max_samples": Not("all rows are trained on: give a file with those that are wanted"),
    "ignore_pad_token_for_loss": Left("padding is never learned from"),
    "eval_dataset": Not("rows are held out of the data (data.holdout)"),
    "eval_on_each_dataset": Not("a job has one data set"),
    "packing": To("training.packing", v.truth),
    "neat_packing": Left("packed rows never see one another"),
    "tool_format": Not("tools are rendered by the tokenizer's chat template"),
    "default_system": Not("a system turn is in the data"),
    "enable_thinking": Not("the chat template is the tokenizer's"),
    "fp8": Not("types are float32, bfloat16 and float16, and NF4 bases"),
    "ray_num_workers": Not("resources.gpus: `convert --gpus N`"),
    "ray_run_name": Left(hf.NAMED),
    "ray_storage_path": Left(hf.NAMED),
    "resources_per_worker": Left("a rank has a GPU"),
    "placement_strategy": Left("where ranks run is the scheduler's"),
    "use_swanlab": Not("curves go to tensorboard, wandb, mlflow, trackio"),
    "use_mca": Not("the trainer is TRL's"),
    "use_hyper_parallel": Not("the trainer is TRL's"),
}
_STAGES = {"dpo": "dpo", "kto": "kto", "rm": "reward"}
_LOSSES_OF_DPO = ("sigmoid", "hinge", "ipo")
_OF_STAGE = {
    "dpo": {"pref_beta": "dpo.beta", "dpo_label_smoothing": "dpo.label_smoothing"},
    "kto": {
        "pref_beta": "kto.beta",
        "kto_chosen_weight": "kto.desirable_weight",
        "kto_rejected_weight": "kto.undesirable_weight",
    },
}
_OF_PREFERENCES = (
    "pref_beta",
    "pref_loss",
    "pref_ftx",
    "simpo_gamma",
    "dpo_label_smoothing",
    "ref_model",
    "reward_model",
)


def convert(draft: Draft, dataset_info: Mapping[str, Any] | None = None) -> None:
    """Everything that the file says. dataset_info: of the file that names its data sets, where it is there."""
    _stage(draft)
    _method(draft)
    hf.together(draft, batch=8, epochs=3, learning_rate=5e-5)
    if draft.get("pure_bf16", False) is True:
        draft.map(["pure_bf16", "bf16"], "model.dtype", "bfloat16")
    else:
        hf.precision(draft, trained="float32")
    _data(draft, dataset_info)
    hf.evaluating(draft, draft.get("val_size", 0) not in (0, 0.0))
    if draft.get("use_unsloth", False) is True:
        draft.map("use_unsloth", "model.engine", "unsloth")
    draft.leave("use_unsloth", "asks for nothing")
    if draft.get("flash_attn") == "auto":
        draft.leave("flash_attn", "sdpa is the default here, too")
    if not draft.has("cutoff_len"):
        draft.default("training.sequence_length", 2048, "cutoff_len 2048")
    apply(TABLE, draft)


def _stage(draft: Draft) -> None:
    stage, loss = draft.get("stage", "sft"), draft.get("pref_loss", "sigmoid")
    if stage in ("sft", "pt"):
        draft.leave("stage", "trainer: sft" if stage == "sft" else "trainer: sft learns from text, too")
        draft.unmet(draft.has(*_OF_PREFERENCES), _PREFERENCES)
    elif stage not in _STAGES or (stage == "dpo" and loss not in _LOSSES_OF_DPO):
        key, fix = (
            "pref_loss" if stage in _STAGES else "stage",
            "write the job file's trainer and its section by hand",
        )
        draft.refuse(key, "is not carried over from LLaMA-Factory", fix)
    else:
        draft.map("stage", "trainer", _STAGES[stage])
        if stage == "dpo":
            draft.put("dpo.loss_type", [loss])
            draft.map("pref_loss", "dpo.loss_type", [loss])
        for key, path in _OF_STAGE.get(stage, {}).items():
            if draft.has(key):
                draft.map(key, path, draft.values[key])
        draft.unmet(
            draft.has(*_OF_PREFERENCES), "the reference is the model as it was, and what else is TRL's"
        )
    if draft.get("do_train", False) is not True:
        key = "export_dir" if draft.has("export_dir") else "do_train"
        draft.refuse(key, "is no training, and a job trains", "convert a file that has do_train: true")
    draft.unmet([key for key in draft.values if key.startswith("export_")], "training does not export")
    if stage == "pt" and not draft.has("packing"):
        draft.default("training.packing", True, "packing true, for stage pt")


def _method(draft: Draft) -> None:
    kind, bits = draft.get("finetuning_type", "lora"), draft.get("quantization_bit")
    if kind not in ("full", "lora"):
        draft.refuse("finetuning_type", "is no method here", "use full or lora")
        return
    if kind == "full" and bits is not None:
        draft.refuse(
            "quantization_bit", "trains a packed base whole, which can't be done", "set finetuning_type: lora"
        )
    made = "qlora" if kind == "lora" and bits == 4 else kind
    draft.put("method.kind", made)
    draft.map(["finetuning_type"], "method.kind", made)
    if bits == 4:
        draft.map("quantization_bit", "method.kind", made)
    elif bits is not None:
        draft.unmet("quantization_bit", f"{_QUANTISED}: here it takes the whole type")
    way, packed = draft.get("quantization_method", "bnb"), draft.get("quantization_type", "nf4")
    if way not in ("bnb", "bitsandbytes"):
        draft.unmet("quantization_method", _QUANTISED)
    draft.leave("quantization_method", "bitsandbytes packs 4-bit bases")
    if packed != "nf4" or draft.get("double_quantization", True) is not True:
        draft.unmet(
            draft.has("quantization_type", "double_quantization"), "NF4 with double quantisation is used"
        )
    draft.leave(["quantization_type", "double_quantization"], "NF4 with double quantisation is used")
    if made == "full":
        draft.leave([key for key in draft.values if key.startswith("lora_")], "there is no adapter")
        return
    rank = draft.get("lora_rank", 8)
    if not draft.has("lora_rank"):
        draft.default("method.rank", 8, "lora_rank 8")
    if not draft.has("lora_alpha") and isinstance(rank, int):
        draft.default("method.alpha", 2 * rank, "lora_alpha twice the rank")
    if not draft.has("lora_dropout"):
        draft.default("method.dropout", 0.0, "lora_dropout 0")


def _data(draft: Draft, info: Mapping[str, Any] | None) -> None:
    if draft.get("train_on_prompt", False) is True:
        draft.map("train_on_prompt", "data.loss_on", "all")
    draft.leave("train_on_prompt", "prompts are not learned from")
    _holdout(draft)
    template = draft.get("template")
    if template in ("default", "empty"):
        draft.leave("template", "the chat template is the tokenizer's")
    elif template is not None:
        draft.unmet("template", "is a template of LLaMA-Factory's: the tokenizer's own is used")
    given = v.names(draft.get("dataset", []))
    if not given:
        return
    if len(given) > 1:
        draft.unmet("dataset", f"a job has one data set, this has {len(given)}: merge them, or give one")
        return
    entry = (info or {}).get(given[0])
    if not isinstance(entry, Mapping):
        draft.unmet(
            "dataset", "names an entry of dataset_info.json, which is not beside this file: set data by hand"
        )
        draft.unmet("dataset_dir", "has the data sets that dataset names")
        return
    _entry(draft, given[0], entry)


def _holdout(draft: Draft) -> None:
    try:
        share = v.number(draft.get("val_size", 0))
    except NotHonoured as error:
        draft.refuse("val_size", str(error), "write a share such as 0.05")
        return
    if share >= 1:
        draft.unmet("val_size", "is a number of rows: data.holdout is a share of them")
    elif share > 0:
        draft.map("val_size", "data.holdout", min(share, 0.5))
    else:
        draft.leave("val_size", "no rows are held out")


def _entry(draft: Draft, name: str, entry: Mapping[str, Any]) -> None:
    """An entry of dataset_info.json."""
    folder = draft.get("dataset_dir", "data")
    path = entry.get("hf_hub_url") or (f"{folder}/{entry['file_name']}" if entry.get("file_name") else None)
    if not isinstance(path, str):
        draft.unmet("dataset", f"{name} of dataset_info.json is on no hub that is read, nor a file")
        return
    draft.map(["dataset", "dataset_dir"], "data.path", path)
    if entry.get("split"):
        draft.put("data.split", str(entry["split"]))
    form = "rows need prompt and completion, or messages with role and content, or text: rename the columns"
    for key in ("formatting", "columns", "tags"):
        if entry.get(key):
            draft.also(f"dataset_info.{name}.{key}", entry[key], form)
    if not entry.get("formatting") and not entry.get("columns"):
        draft.also(f"dataset_info.{name}", "alpaca", form)
    for key in sorted({*entry} - {"hf_hub_url", "file_name", "split", "formatting", "columns", "tags"}):
        draft.also(f"dataset_info.{name}.{key}", entry[key], "is not carried over")
