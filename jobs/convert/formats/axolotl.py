"""axolotl 0.19 (src/axolotl/utils/schemas): a YAML file for `axolotl train`."""

from __future__ import annotations

from typing import Any

from jobs.convert import values as v
from jobs.convert.draft import Draft, NotHonoured
from jobs.convert.formats import huggingface as hf
from jobs.convert.formats.axolotl_keys import CURVES, TABLE
from jobs.convert.rules import apply

_ATTENTION = {"flash_attention": "flash_attention_2", "sdp_attention": "sdpa", "xformers_attention": "sdpa"}
_TRACKERS = {"wandb": "wandb_project", "tensorboard": "use_tensorboard", "trackio": "trackio_project_name"}
_FORMS = "rows need prompt and completion, or messages, or text"


def convert(draft: Draft) -> None:
    """Everything that an axolotl file says."""
    _method(draft)
    _batch(draft)
    hf.duration(draft, "num_epochs", 1)
    hf.warmup_and_schedule(draft, "lr_scheduler", "cosine", 0.03)
    hf.betas(draft)
    hf.saving(draft)
    _data(draft)
    _template(draft)
    _precision(draft)
    _attention(draft)
    _trackers(draft)
    if not draft.has("seed"):
        draft.default("training.seed", 42, "seed 42")
    _trainer(draft)
    apply(TABLE, draft)


def _trainer(draft: Draft) -> None:
    fix = "write the job file's trainer and its section by hand"
    for key in ("rl", "reward_model", "process_reward_model"):
        if draft.get(key, False):
            draft.refuse(key, "is another training than SFT, which is not carried over from axolotl", fix)


def _batch(draft: Draft) -> None:
    """batch_size is micro_batch_size x gradient_accumulation_steps, for who gives one of those alone."""
    if not draft.has("batch_size"):
        hf.global_batch(draft, "micro_batch_size", "gradient_accumulation_steps", 1)
        return
    try:
        whole = v.whole(draft.values["batch_size"])
        if draft.has("micro_batch_size") and draft.has("gradient_accumulation_steps"):
            product = v.whole(draft.values["micro_batch_size"]) * v.whole(
                draft.values["gradient_accumulation_steps"]
            )
            if product != whole:
                fix = "leave batch_size out, or make them agree"
                draft.refuse(
                    "batch_size", f"is not micro_batch_size x gradient_accumulation_steps, {product}", fix
                )
                return
    except NotHonoured as error:
        draft.refuse("batch_size", str(error), "write whole numbers")
        return
    keys = draft.has("batch_size", "micro_batch_size", "gradient_accumulation_steps")
    draft.map(keys, "training.global_batch", whole * draft.gpus)


def _method(draft: Draft) -> None:
    adapter, four = draft.get("adapter") or "full", draft.get("load_in_4bit", False)
    eight = draft.get("load_in_8bit", False)
    if adapter not in ("full", "lora", "qlora"):
        draft.refuse("adapter", "is no kind of adapter here", "use lora or qlora")
        return
    if four and adapter == "full":
        draft.refuse(
            "load_in_4bit",
            "trains a base in 4 bits whole, which can't be done",
            "set adapter: qlora, or false",
        )
        return
    kind = "qlora" if adapter == "qlora" or four else adapter
    draft.put("method.kind", kind)
    draft.map(draft.has("adapter", "load_in_4bit"), "method.kind", kind)
    if eight:
        draft.unmet(
            "load_in_8bit",
            "a base is in its own type or in 4 bits: here it takes two bytes a weight",
        )
    draft.leave("load_in_8bit", "asks for nothing")
    if kind == "full":
        draft.leave(
            [key for key in draft.values if key.startswith(("lora_", "peft_"))], "there is no adapter"
        )
        return
    given, linear = draft.get("lora_target_modules"), draft.get("lora_target_linear", False)
    if linear:
        draft.map("lora_target_linear", "method.targets", "all-linear")
        draft.leave("lora_target_modules", "lora_target_linear has them all")
        return
    draft.leave("lora_target_linear", "asks for nothing")
    try:
        if given:
            draft.map("lora_target_modules", "method.targets", v.targets(given))
    except NotHonoured as error:
        draft.unmet("lora_target_modules", str(error))


def _data(draft: Draft) -> None:
    found = draft.get("datasets", [])
    held = draft.get("val_set_size", 0)
    try:
        share = v.number(held)
    except NotHonoured as error:
        draft.refuse("val_set_size", str(error), "write a share such as 0.05")
        share = 0.0
    if share == 1:
        draft.refuse(
            "val_set_size",
            "is all rows to axolotl, and reads as one row",
            "write a share below 1, such as 0.05",
        )
    elif share > 1:
        draft.unmet("val_set_size", "is a number of rows: data.holdout is a share of them")
        share = 0.0
    elif share > 0:
        draft.map("val_set_size", "data.holdout", min(share, 0.5))
    else:
        draft.leave("val_set_size", "no rows are held out")
    _evaluating(draft, share > 0)
    if not isinstance(found, list) or len(found) != 1 or not isinstance(found[0], dict):
        if draft.has("datasets"):
            many = len(found) if isinstance(found, list) else 0
            several = f"a job has one data set, this has {many}: merge them, or give one"
            draft.unmet("datasets", several if many else "is no list of mappings")
        return
    _one(draft, found[0])


def _evaluating(draft: Draft, holdout: bool) -> None:
    hf.evaluating(draft, holdout)
    if holdout:
        draft.unmet("evals_per_epoch", "evaluations are counted in steps; a tenth of the run is used")
    draft.leave("evals_per_epoch", "no rows are kept out to evaluate on")


def _one(draft: Draft, given: dict[str, Any]) -> None:
    """One data set. What of its own keys is not honoured is listed with it."""
    rest = {key: value for key, value in given.items() if value not in (None, "", [], {})}
    path, files = rest.pop("path", None), rest.pop("data_files", None)
    if isinstance(files, list) and len(files) == 1:
        files = files[0]
    if path in ("json", "csv", "parquet", "text") and isinstance(files, str):
        path, files = files, None
    if not isinstance(path, str):
        draft.refuse("datasets", "has no path", "give datasets[0].path")
        return
    draft.map("datasets", "data.path", path)
    if (split := rest.pop("split", None)) is not None:
        draft.put("data.split", str(split))
    rest.pop("ds_type", None)
    kind = rest.pop("type", None)
    reasons = _shape(draft, kind, rest)
    if files is not None:
        reasons["data_files"] = "a job's data is one file, folder or hub id"
    for key in rest:
        reasons.setdefault(key, "is not carried over")
    for key, reason in reasons.items():
        draft.also(f"datasets[0].{key}", given.get(key), reason)


def _shape(draft: Draft, kind: Any, rest: dict[str, Any]) -> dict[str, str]:
    """What of a data set's shape is not honoured. Takes what is out of rest."""
    reasons: dict[str, str] = {}
    learns_all = draft.get("train_on_inputs", False)
    if not learns_all:
        draft.leave("train_on_inputs", "prompts are not learned from")
    if isinstance(kind, str) and (kind == "chat_template" or kind.startswith("chat_template.")):
        draft.put("data.loss_on", "all" if learns_all else "assistant")
        if learns_all:
            draft.map("train_on_inputs", "data.loss_on", "all")
        field = rest.pop("field_messages", "messages")
        names = rest.pop("message_property_mappings", {"role": "role", "content": "content"})
        role = rest.pop(
            "message_field_role", names.get("role", "role") if isinstance(names, dict) else "role"
        )
        content = rest.pop(
            "message_field_content", names.get("content", "content") if isinstance(names, dict) else "content"
        )
        if field != "messages":
            reasons["field_messages"] = "rows need their turns in messages: rename the column"
        if (role, content) != ("role", "content"):
            reasons["message_property_mappings"] = "turns need role and content: rename them in the data"
        if rest.get("roles") is not None and _plain_roles(rest["roles"]):
            rest.pop("roles")
        return reasons
    if learns_all:
        draft.unmet(
            "train_on_inputs",
            "prompts of prompt and completion are not learned from; rows of text are, whole",
        )
    if kind == "completion":
        field = rest.pop("field", "text")
        return {} if field == "text" else {"field": "rows need text: rename the column"}
    reasons["type"] = f"axolotl makes text of such rows itself: {_FORMS}" if kind else _FORMS
    return reasons


def _plain_roles(roles: Any) -> bool:
    """Whether roles of the data are called what chat templates call them."""
    return isinstance(roles, dict) and all(
        isinstance(names, list) and set(names) == {role} for role, names in roles.items()
    )


def _template(draft: Draft) -> None:
    if (name := draft.get("chat_template")) is None:
        return
    if str(name).startswith("tokenizer_default"):
        draft.leave("chat_template", "the chat template is the tokenizer's")
    else:
        draft.unmet("chat_template", "is a template of axolotl's: the tokenizer's own is used")


def _precision(draft: Draft) -> None:
    keys = draft.has("bf16", "fp16", "bfloat16", "float16", "torch_dtype")
    bf16 = draft.get("bf16", draft.get("bfloat16", "auto"))
    fp16 = draft.get("fp16", draft.get("float16", False))
    kind = draft.job.get("method", {}).get("kind")
    if bf16 in (True, "full") and fp16 is True:
        draft.refuse("fp16", "stands beside bf16, and only one can hold", "set one of them")
        return
    if fp16 is True and kind == "lora" and bf16 in (False, "auto"):
        draft.map(keys, "model.dtype", "float16")
    elif fp16 is True and bf16 is not True:
        draft.unmet(keys, "float16 is for weights in it with LoRA alone; bfloat16 is used")
        draft.put("model.dtype", "bfloat16")
    else:
        dtype = "bfloat16" if bf16 in (True, "auto", "full") else "float32"
        draft.map(keys, "model.dtype", dtype)
        draft.put("model.dtype", dtype)
    if draft.get("tf32") == "auto":
        draft.leave("tf32", "is the host's own setting")


def _attention(draft: Draft) -> None:
    if draft.has("attn_implementation"):
        given = draft.values["attn_implementation"]
        if given == "xformers":
            draft.map("attn_implementation", "model.attention", "sdpa")
        else:
            try:
                draft.map("attn_implementation", "model.attention", v.attention(given))
            except NotHonoured as error:
                draft.unmet("attn_implementation", str(error))
    for key, name in _ATTENTION.items():
        if draft.get(key, False) is True:
            draft.map(key, "model.attention", name)
        else:
            draft.leave(key, "asks for nothing")


def _trackers(draft: Draft) -> None:
    found = []
    for name, key in (
        ("wandb", "wandb_project"),
        ("tensorboard", "use_tensorboard"),
        ("trackio", "trackio_project_name"),
    ):
        if draft.get(key, False):
            found.append(name)
            draft.map(key, "report_to", [*found])
    if draft.get("wandb_project"):
        draft.also("wandb_project (its name)", draft.values["wandb_project"], CURVES)
