"""`training.extra`: fields of TRL's configuration that no key of the job file has, and why others are refused.

The fields of TRL 1.16's SFTConfig, written down so that a laptop without TRL can say what is wrong;
tests/workers/test_extra.py holds the list against the installed class.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from jobs.errors import Fault

_WRITES = "tuneyard writes progress and logs itself"
_SAVES = "tuneyard saves checkpoints itself: use training.checkpoint_steps and training.keep_checkpoints"
_BEST = "use training.keep_best and training.early_stopping"
_EVALUATES = "use data.holdout and training.eval_steps"
_HUB = "tuneyard never publishes from the training process"
_LOADS = "the rows are tokens in a file already: nothing is left for workers to load"
_LADDER = "the ladder decides: use memory.checkpointing, memory.offload, memory.micro_batch"
_PARALLEL = "use resources.gpus and resources.across_hosts"
_PREPARED = "tuneyard prepares the rows itself: use the keys of data"
_COSTS = "it changes how much memory a step takes, which no projection has"
_KERNELS = "it changes which kernels run, and how much memory they take, which no projection has"
_TRACKER = "use report_to"
_MODEL = "use the keys of model"

# Of all of TRL's configurations: what may be set. None of these changes the memory of a step.
ALLOWED: Mapping[str, type | tuple[str, ...]] = {
    "average_tokens_across_devices": bool,
    "data_seed": int,
    "dataloader_drop_last": bool,
    "ddp_timeout": int,
    "eval_delay": float,
    "eval_on_start": bool,
    "tf32": bool,
    "torch_empty_cache_steps": int,
    "train_sampling_strategy": ("random", "sequential", "group_by_length"),
}

# The others, with what to use or why not.
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("learning_rate", "seed", "weight_decay", "max_grad_norm"), "use the key of training"),
    "max_steps": "use training.steps",
    "num_train_epochs": "use training.epochs",
    "warmup_steps": "use training.warmup_steps or training.warmup_ratio",
    "lr_scheduler_type": "use training.scheduler",
    "lr_scheduler_kwargs": "use training.scheduler_kwargs",
    "optim": "use training.optimizer",
    "optim_args": "use training.betas and training.epsilon",
    "optim_target_modules": "an optimizer of its own for some modules keeps another state, which no projection has",
    **dict.fromkeys(("adam_beta1", "adam_beta2"), "use training.betas"),
    "adam_epsilon": "use training.epsilon",
    "neftune_noise_alpha": "use training.neftune_alpha",
    "label_smoothing_factor": "TRL 1.16 computes it from whole logits in a second forward pass, and will remove it; no "
    "projection has that",
    "max_length": "use training.sequence_length",
    "packing": "use training.packing",
    "loss_type": "use training.loss",
    **dict.fromkeys(("bf16", "fp16"), "use training.autocast and model.dtype"),
    **dict.fromkeys(("bf16_full_eval", "fp16_full_eval"), _COSTS),
    **dict.fromkeys(
        (
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "auto_find_batch_size",
        ),
        "use training.global_batch and memory.micro_batch",
    ),
    **dict.fromkeys(
        (
            "activation_checkpointing",
            "activation_checkpointing_kwargs",
            "activation_offloading",
            "gradient_checkpointing",
            "gradient_checkpointing_kwargs",
        ),
        _LADDER,
    ),
    **dict.fromkeys(
        ("eval_strategy", "do_eval", "do_train", "do_predict", "include_for_metrics", "prediction_loss_only"),
        _EVALUATES,
    ),
    "eval_steps": "use training.eval_steps",
    **dict.fromkeys(
        ("batch_eval_metrics", "eval_accumulation_steps", "eval_do_concat_batches", "eval_use_gather_object"),
        "an evaluation keeps its loss and no logits",
    ),
    "label_names": "an evaluation keeps its loss and no logits",
    **dict.fromkeys(("eval_packing", "pad_to_multiple_of", "padding_free"), _COSTS),
    **dict.fromkeys(("load_best_model_at_end", "metric_for_best_model", "greater_is_better"), _BEST),
    "save_total_limit": "use training.keep_checkpoints",
    "save_steps": "use training.checkpoint_steps",
    **dict.fromkeys(
        (
            "output_dir",
            "save_strategy",
            "save_on_each_node",
            "save_only_model",
            "enable_jit_checkpoint",
            "resume_from_checkpoint",
            "restore_callback_states_from_checkpoint",
        ),
        _SAVES,
    ),
    "ignore_data_skip": "a job that goes on trains each row once",
    **dict.fromkeys(
        (
            "disable_tqdm",
            "debug",
            "include_num_input_tokens_seen",
            "log_level",
            "log_level_replica",
            "log_on_each_node",
            "logging_first_step",
            "logging_nan_inf_filter",
            "logging_steps",
            "logging_strategy",
            "skip_memory_metrics",
        ),
        _WRITES,
    ),
    **dict.fromkeys(
        (
            "hub_always_push",
            "hub_model_id",
            "hub_private_repo",
            "hub_revision",
            "hub_strategy",
            "hub_token",
            "push_to_hub",
        ),
        _HUB,
    ),
    **dict.fromkeys(
        (
            "report_to",
            "run_name",
            "project",
            "trackio_bucket_id",
            "trackio_space_id",
            "trackio_static_space_id",
        ),
        _TRACKER,
    ),
    **dict.fromkeys(
        (
            "dataloader_in_order",
            "dataloader_multiprocessing_context",
            "dataloader_num_workers",
            "dataloader_persistent_workers",
            "dataloader_pin_memory",
            "dataloader_prefetch_factor",
        ),
        _LOADS,
    ),
    **dict.fromkeys(
        (
            "accelerator_config",
            "ddp_backend",
            "ddp_find_unused_parameters",
            "deepspeed",
            "fsdp",
            "fsdp_config",
            "local_rank",
            "parallelism_config",
            "use_cpu",
        ),
        _PARALLEL,
    ),
    **dict.fromkeys(("ddp_broadcast_buffers", "ddp_bucket_cap_mb", "ddp_static_graph"), _COSTS),
    **dict.fromkeys(
        (
            "full_determinism",
            "liger_kernel_config",
            "torch_compile",
            "torch_compile_backend",
            "torch_compile_mode",
            "use_liger_kernel",
        ),
        _KERNELS,
    ),
    **dict.fromkeys(
        (
            "completion_only_loss",
            "assistant_only_loss",
            "dataset_kwargs",
            "dataset_num_proc",
            "dataset_text_field",
            "length_column_name",
            "remove_unused_columns",
            "shuffle_dataset",
            "truncation_mode",
        ),
        _PREPARED,
    ),
    "packing_strategy": "rows are cut before they are packed, so that bfd_split does what bfd does; wrapped takes "
    "another amount of memory, which no projection has",
    "chat_template_path": "use model.chat_template",
    "eos_token": "use model.eos_token",
    "pad_token": "save the tokenizer with that pad_token, and give it as model.tokenizer",
    **dict.fromkeys(("model_init_kwargs", "trust_remote_code"), _MODEL),
    "use_cache": "training keeps no keys and values of earlier tokens",
    "router_aux_loss_coef": "give the model a config.json with that router_aux_loss_coef",
}


def faults(training: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with `training.extra`: unknown fields, those that are refused, values of other types."""
    extra = training.get("extra")
    if not isinstance(extra, Mapping):
        return []
    found = []
    for name, value in extra.items():
        path, shown = f"training.extra.{name}", str(value)
        kind = ALLOWED.get(name)
        if kind is None:
            found.append(Fault(path, shown, *_refused(str(name))))
        elif isinstance(kind, tuple):
            if value not in kind:
                found.append(Fault(path, shown, "is not one of the choices", f"use {' or '.join(kind)}"))
        elif not _is(value, kind):
            words = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
            found.append(Fault(path, shown, f"is not {words}", f"write {words}"))
    return found


def _refused(name: str) -> tuple[str, str]:
    if name in REFUSED:
        fix = REFUSED[name]
        return "can't be set here", fix if fix.startswith("use ") else f"leave it out: {fix}"
    close = difflib.get_close_matches(name, [*ALLOWED, *REFUSED], n=1)
    fix = f"did you mean {close[0]}?" if close else f"known here: {', '.join(ALLOWED)}"
    return "is no field of TRL's configuration", fix


def _is(value: Any, kind: type) -> bool:
    if kind is bool:
        return isinstance(value, bool)
    kinds = (int,) if kind is int else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and value >= 0
