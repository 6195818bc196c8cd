"""Values that mean the same under other names."""

from __future__ import annotations

from typing import Any

from jobs.convert.draft import NotHonoured
from jobs.jobfile.fields import OPTIMIZERS

_OPTIMIZERS = {
    **{name: name for name in OPTIMIZERS},
    **{optim: name for name, optim in OPTIMIZERS.items()},
    "adamw_torch": "adamw",
    "adamw_hf": "adamw",
    "adamw_bnb_8bit": "adamw_8bit",
    "paged_adamw_32bit": "paged_adamw",
}
ATTENTIONS = {
    "sdpa": "sdpa",
    "eager": "eager",
    "flash_attention_2": "flash_attention_2",
    "fa2": "flash_attention_2",
    "disabled": "eager",
}


def number(value: Any) -> float:
    """A number, as text too: YAML 1.1 reads 2e-4 as text."""
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError):
        raise NotHonoured("is no number") from None


def whole(value: Any) -> int:
    made = number(value)
    if not made.is_integer():
        raise NotHonoured("is no whole number")
    return int(made)


def truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise NotHonoured("is neither true nor false")


def text(value: Any) -> str:
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value)
    raise NotHonoured("is no text")


def optimizer(value: Any) -> str:
    if (name := _OPTIMIZERS.get(str(value))) is not None:
        return name
    raise NotHonoured(f"is no optimizer here: adamw is used ({', '.join(OPTIMIZERS)} are there)")


def attention(value: Any) -> str:
    if (name := ATTENTIONS.get(str(value))) is not None:
        return name
    raise NotHonoured("is no attention here: sdpa is used (eager and flash_attention_2 are there)")


def targets(value: Any) -> Any:
    """Modules that get an adapter: all-linear, or their names."""
    given = [one.strip() for one in value.split(",")] if isinstance(value, str) else value
    if isinstance(given, list) and given in (["all"], ["all-linear"], ["all_linear"]):
        return "all-linear"
    names = isinstance(given, list) and given and all(isinstance(one, str) and one for one in given)
    if not names or any(set(one) & set("*\\^$[]()|?+") for one in given):
        raise NotHonoured("is a pattern: name the modules, or all-linear; all-linear is used")
    return given


def template(value: Any) -> str:
    """A chat template: a Jinja file. TRL takes a tokenizer's name for one, too."""
    if isinstance(value, str) and value.endswith((".jinja", ".j2")):
        return value
    raise NotHonoured("is no .jinja file: the tokenizer's own template is used")


def lora_init(value: Any) -> str:
    """How adapters begin: PEFT's true is its default."""
    if value is True:
        return "default"
    if value in ("gaussian", "orthogonal"):
        return str(value)
    raise NotHonoured("is no way to begin here: default is used (gaussian and orthogonal are there)")


def names(value: Any) -> list[str]:
    """A list of names, or one with commas."""
    given = [one.strip() for one in value.split(",")] if isinstance(value, str) else value
    if isinstance(given, list) and all(isinstance(one, str) for one in given):
        return given
    raise NotHonoured("is no list of names")


def trackers(value: Any) -> list[str]:
    given = [value] if isinstance(value, str) else value
    if given in (["none"], ["all"]) or not isinstance(given, list):
        if given == ["all"]:
            raise NotHonoured("is whatever happens to be installed: name the trackers in report_to")
        return []
    known = ("tensorboard", "wandb", "mlflow", "trackio")
    if other := [one for one in given if one not in known]:
        raise NotHonoured(f"{', '.join(map(str, other))}: curves go to {', '.join(known)}")
    return list(given)
