"""Fields of transformers' TrainingArguments (5.23), which LLaMA-Factory and TRL share.

Memory is tuneyard's to plan: micro-batch, accumulation and checkpointing come to a global batch alone.
"""

from __future__ import annotations

import re
from typing import Any

from jobs.convert import values as v
from jobs.convert.draft import Draft, NotHonoured
from jobs.convert.rules import Left, Not, Rule, To
from jobs.jobfile.fields import NAME
from jobs.jobfile.options.schedulers import SCHEDULES

PLANNED = "the plan chooses just enough of it for the card"
LOGGED = "progress is written at least every few seconds, whatever the steps"
NAMED = "results are named after the job, in the host's output root (output: FOLDER sets one)"
WHOLE = "each GPU holds the whole model (DDP); nothing is sharded"
PUSHED = "training does not push; see `tuneyard pull`"
LOADED = "how rows reach the trainer is tuneyard's"


def name(value: Any) -> str:
    if re.fullmatch(NAME, made := str(value)):
        return made
    raise NotHonoured("is no name of a job: letters, digits, dots, underscores and dashes")


def _by_length(value: Any) -> str:
    return "group_by_length" if v.truth(value) else "random"


TABLE: dict[str, Rule] = {
    "learning_rate": To("training.learning_rate", v.number),
    "weight_decay": To("training.weight_decay", v.number),
    "seed": To("training.seed", v.whole),
    "max_grad_norm": To("training.max_grad_norm", v.number),
    "adam_epsilon": To("training.epsilon", v.number),
    "neftune_noise_alpha": To("training.neftune_alpha", v.number),
    "save_total_limit": To("training.keep_checkpoints", v.whole),
    "optim": To("training.optimizer", v.optimizer),
    "lr_scheduler_kwargs": To("training.scheduler_kwargs"),
    "gradient_checkpointing": Left(PLANNED),
    "gradient_checkpointing_kwargs": Left(PLANNED),
    "activation_checkpointing": Left(PLANNED),
    "activation_checkpointing_kwargs": Left(PLANNED),
    "auto_find_batch_size": Left(PLANNED),
    "per_device_eval_batch_size": Left(PLANNED),
    "eval_accumulation_steps": Left("no logits are kept in an evaluation"),
    "prediction_loss_only": Left("evaluation is the loss"),
    "logging_steps": Left(LOGGED),
    "logging_strategy": Left(LOGGED),
    "logging_first_step": Left(LOGGED),
    "logging_dir": Left(LOGGED),
    "log_level": Left(LOGGED),
    "disable_tqdm": Left(LOGGED),
    "output_dir": Left(NAMED),
    "overwrite_output_dir": Left(NAMED),
    "do_train": Left("a job trains"),
    "do_eval": Left("evaluation follows data.holdout"),
    "run_name": To("name", name),
    "ddp_timeout": Left("ranks watch each other"),
    "ddp_backend": Left("nccl on GPUs, gloo on CPU cards"),
    "ddp_find_unused_parameters": Left("all of a job's parameters are used"),
    "local_rank": Left("the worker sets it"),
    "dataloader_num_workers": Left(LOADED),
    "dataloader_pin_memory": Left(LOADED),
    "dataloader_prefetch_factor": Left(LOADED),
    "remove_unused_columns": Left(LOADED),
    "resume_from_checkpoint": Not("a job goes on from its own checkpoints"),
    "save_only_model": Not("checkpoints hold what a job takes to go on"),
    "tf32": To("training.extra.tf32", v.truth),
    "data_seed": To("training.extra.data_seed", v.whole),
    "average_tokens_across_devices": To("training.extra.average_tokens_across_devices", v.truth),
    "dataloader_drop_last": To("training.extra.dataloader_drop_last", v.truth),
    "eval_on_start": To("training.extra.eval_on_start", v.truth),
    "eval_delay": To("training.extra.eval_delay", v.number),
    "torch_empty_cache_steps": To("training.extra.torch_empty_cache_steps", v.whole),
    "deepspeed": Not(WHOLE),
    "fsdp": Not(WHOLE),
    "fsdp_config": Not(WHOLE),
    "fsdp_transformer_layer_cls_to_wrap": Not(WHOLE),
    "push_to_hub": Not(PUSHED),
    "hub_model_id": Not(PUSHED),
    "hub_strategy": Not(PUSHED),
    "hub_private_repo": Not(PUSHED),
    "hub_token": Not("secrets are the project's: `tuneyard secret set`"),
    "use_liger_kernel": Not("TRL computes the loss in tiles without it"),
    "torch_compile": Not("a compiled step has memory that is not traced"),
    "label_smoothing_factor": Not("TRL would keep whole logits for it", neutral=(0, 0.0)),
    "group_by_length": To("training.extra.train_sampling_strategy", _by_length),
    "metric_for_best_model": Not(
        "the best checkpoint is that of the lowest loss", neutral=("loss", "eval_loss")
    ),
    "greater_is_better": Not("a lower loss is better", neutral=(False,)),
    "include_num_input_tokens_seen": Left(LOGGED),
    "include_tokens_per_second": Left(LOGGED),
    "save_safetensors": Left("weights are safetensors"),
    "use_cpu": Not("a job runs on whatever card it is placed on", neutral=(False,)),
}
_DEFAULT_SCHEDULER = "linear"
_BY_EVALUATIONS = ("load_best_model_at_end", "early_stopping_patience", "early_stopping_steps")


def together(draft: Draft, *, batch: int, epochs: float, learning_rate: float, seed: int = 42) -> None:
    """What several fields mean together. batch, epochs, learning_rate, seed: the tool's own where nothing is said."""
    global_batch(draft, "per_device_train_batch_size", "gradient_accumulation_steps", batch)
    duration(draft, "num_train_epochs", epochs)
    warmup_and_schedule(draft, "lr_scheduler_type", _DEFAULT_SCHEDULER)
    betas(draft)
    saving(draft)
    if not draft.has("learning_rate"):
        draft.default("training.learning_rate", learning_rate, f"learning_rate {learning_rate}")
    if not draft.has("seed"):
        draft.default("training.seed", seed, f"seed {seed}")
    if draft.has("report_to"):
        reporting(draft, "report_to")


def global_batch(draft: Draft, rows: str, steps: str, default: int) -> None:
    """Rows of a micro-batch x accumulation x GPUs."""
    try:
        product = v.whole(draft.get(rows, default)) * v.whole(draft.get(steps, 1)) * draft.gpus
    except NotHonoured as error:
        draft.refuse(rows, f"or {steps} {error}", "write whole numbers")
        return
    if draft.has(rows, steps):
        draft.map([rows, steps], "training.global_batch", product)
    else:
        draft.default("training.global_batch", product, f"{rows} {default}")


def duration(draft: Draft, epochs: str, default: float) -> None:
    """max_steps, if it is above 0, wins over epochs (transformers)."""
    steps = draft.get("max_steps", -1)
    try:
        if v.number(steps) > 0:
            draft.map("max_steps", "training.steps", v.whole(steps))
            draft.leave(epochs, "max_steps comes before it, as in transformers")
            return
        draft.leave("max_steps", "asks for nothing")
        if draft.has(epochs):
            draft.map(epochs, "training.epochs", v.number(draft.values[epochs]))
        else:
            draft.default("training.epochs", default, f"{epochs} {default:g}")
    except NotHonoured as error:
        draft.refuse(epochs, f"or max_steps {error}", "write numbers")


def warmup_and_schedule(draft: Draft, scheduler: str, default: str, warmup: float = 0.0) -> None:
    """Schedules of transformers: its `constant` knows no warm-up, and warmup_steps below 1 is a share of the steps.

    warmup: share of the steps where nothing is said.
    """
    said = str(draft.get(scheduler, default))
    known = {**{one: one for one in SCHEDULES}, "constant_with_warmup": "constant"}
    if said in known:
        if draft.has(scheduler):
            draft.map(scheduler, "training.scheduler", known[said])
        else:
            draft.default("training.scheduler", known[said], f"{scheduler} {said}")
    else:
        draft.unmet(scheduler, f"is no schedule here: {default} is used")
        draft.put("training.scheduler", known.get(default, "linear"))
    ratio, steps = draft.get("warmup_ratio", 0), draft.get("warmup_steps", 0)
    if said == "constant":
        draft.leave(["warmup_ratio", "warmup_steps"], "schedule constant has no warm-up")
        draft.put("training.warmup_ratio", 0.0)
        return
    try:
        ratio, steps = v.number(ratio), v.number(steps)
    except NotHonoured as error:
        draft.refuse("warmup_steps", f"or warmup_ratio {error}", "write numbers")
        return
    if ratio and steps:
        draft.refuse(
            "warmup_steps", f"stands beside warmup_ratio {ratio:g}, and only one can hold", "leave one out"
        )
    elif steps >= 1:
        draft.map("warmup_steps", "training.warmup_steps", int(steps))
    elif draft.has("warmup_ratio", "warmup_steps"):
        draft.map(["warmup_ratio", "warmup_steps"], "training.warmup_ratio", ratio or steps)
    else:
        draft.default("training.warmup_ratio", warmup, f"warm-up in {warmup:.0%} of the steps")


def betas(draft: Draft) -> None:
    if given := draft.has("adam_beta1", "adam_beta2"):
        try:
            both = [v.number(draft.get("adam_beta1", 0.9)), v.number(draft.get("adam_beta2", 0.999))]
        except NotHonoured as error:
            draft.unmet(given, str(error))
        else:
            draft.map(given, "training.betas", both)


def saving(draft: Draft) -> None:
    strategy = str(draft.get("save_strategy", "steps"))
    if strategy == "steps" and draft.has("save_steps"):
        _steps(draft, "save_steps", "training.checkpoint_steps")
        draft.leave("save_strategy", "steps are what checkpoint_steps counts")
    elif strategy == "no":
        draft.leave(
            ["save_strategy", "save_steps"], "checkpoints are kept to go on from, and removed at the end"
        )
    elif draft.has("save_strategy", "save_steps"):
        draft.unmet(
            ["save_strategy", "save_steps"], "checkpoints are counted in steps; a tenth of the run is used"
        )


def evaluating(draft: Draft, holdout: bool) -> None:
    """holdout: whether rows are kept out to evaluate on."""
    keys = ["eval_strategy", "evaluation_strategy"]
    strategy = str(draft.get("eval_strategy", draft.get("evaluation_strategy", "no")))
    if not holdout:
        draft.leave([*keys, "eval_steps", *_BY_EVALUATIONS], "no rows are kept out to evaluate on")
        return
    _by_evaluations(draft)
    if strategy == "steps" and draft.has("eval_steps"):
        _steps(draft, "eval_steps", "training.eval_steps")
        draft.leave(keys, "steps are what eval_steps counts")
    elif strategy in ("no", "steps"):
        draft.leave([*keys, "eval_steps"], "data.holdout is evaluated ten times in a run")
    else:
        draft.unmet([*keys, "eval_steps"], "evaluations are counted in steps; a tenth of the run is used")


def _by_evaluations(draft: Draft) -> None:
    """What follows from the loss of the rows held out."""
    if draft.get("load_best_model_at_end", False) is True:
        draft.map("load_best_model_at_end", "training.keep_best", True)
    draft.leave("load_best_model_at_end", "asks for nothing")
    for key in ("early_stopping_patience", "early_stopping_steps"):
        if draft.has(key):
            try:
                draft.map(key, "training.early_stopping", {"patience": v.whole(draft.values[key])})
            except NotHonoured as error:
                draft.unmet(key, str(error))


def _steps(draft: Draft, key: str, path: str) -> None:
    """transformers reads a value below 1 as a share of the run."""
    try:
        if v.number(draft.values[key]) < 1:
            draft.unmet(key, "is a share of the run; a tenth of it is used")
        else:
            draft.map(key, path, v.whole(draft.values[key]))
    except NotHonoured as error:
        draft.unmet(key, str(error))


def reporting(draft: Draft, key: str) -> None:
    try:
        found = v.trackers(draft.values[key])
    except NotHonoured as error:
        draft.unmet(key, str(error))
        return
    if found:
        draft.map(key, "report_to", found)
    else:
        draft.leave(key, "no tracker is the default")


def precision(draft: Draft, trained: str, weights: str | None = None) -> None:
    """bf16 and fp16. trained: type of trained weights under bf16; weights: what the tool names for them, if any."""
    bf16, fp16 = draft.get("bf16", False), draft.get("fp16", False)
    if bf16 is True and fp16 is True:
        draft.refuse("fp16", "stands beside bf16, and only one can hold", "set one of them")
        return
    full = draft.job.get("method", {}).get("kind") == "full"
    dtype = weights or (
        trained if full and bf16 else "bfloat16" if bf16 else "float16" if fp16 else "float32"
    )
    keys = draft.has("bf16", "fp16")
    if fp16 and (draft.job.get("method", {}).get("kind") == "qlora" or full or dtype == "float32"):
        draft.unmet("fp16", "is for weights in float16 with LoRA alone; bfloat16 is used")
        dtype = "bfloat16" if dtype == "float16" else dtype
        bf16 = True
    draft.put("model.dtype", dtype)
    draft.map(keys, "model.dtype", dtype)
    if dtype == "float32":
        draft.put("training.autocast", "bfloat16" if bf16 else "off")
    elif dtype == "bfloat16" and not bf16:
        draft.put("training.autocast", "off")
