"""What LoRA has besides rank and alpha: names of modules, ranks of their own, how it begins."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.errors import Fault

Given = Mapping[str, Any]

# peft 0.21, LoraConfig.init_lora_weights. Those that change the base's weights are refused: the adapter that they end
# with goes with that changed base, and would be wrong beside the model that it says it is for.
INITS = ("default", "gaussian", "orthogonal")
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq")
_NEEDS_DATA = ("eva", "lora_ga")
_OF_A_LAYER = re.compile(r"(?:^|\.)\d+(?:\.|$)")
_NAME = re.compile(r"\w+(?:\.\w+)*")


def begins(value: Any) -> Any:
    """A value of method.init. Raises ValueError with what is wrong."""
    if value in INITS:
        return value
    kind = value.partition("_niter_")[0] if isinstance(value, str) else None
    choices = f"write {', '.join(INITS[:-1])} or {INITS[-1]}"
    if kind in _CHANGES_BASE:
        raise ValueError(
            f"changes the base model's weights, and its adapter would be wrong beside them: {choices}"
        )
    if kind in _NEEDS_DATA:
        raise ValueError(f"begins from gradients or activations of the data, which no trace has: {choices}")
    raise ValueError(f"is no way to begin: {choices}")


def faults(method: Given) -> list[Fault]:
    """Names that a trace can't follow, ranks that the way to begin can't have."""
    found = [
        Fault(
            f"method.{key}",
            name,
            "names the modules of one layer; adapters are projected alike in all layers of a kind",
            "write the module's name alone, such as q_proj",
        )
        if _OF_A_LAYER.search(name)
        else Fault(f"method.{key}", name, "is no name of a module", "such as q_proj or self_attn.q_proj")
        for key, name in _names(method)
        if _OF_A_LAYER.search(name) or not _NAME.fullmatch(name)
    ]
    if method.get("init") == "orthogonal":
        ranks = {"method.rank": method.get("rank", 16)}
        patterns = method.get("rank_pattern")
        if isinstance(patterns, Mapping):
            ranks |= {f"method.rank_pattern.{name}": rank for name, rank in patterns.items()}
        found += [
            Fault(path, str(rank), "is odd, and init: orthogonal needs an even rank", f"use {rank + 1}")
            for path, rank in ranks.items()
            if type(rank) is int and rank % 2
        ]
    return found


def _names(method: Given) -> Iterator[tuple[str, str]]:
    for key in ("targets", "exclude", "modules_to_save", "rank_pattern", "alpha_pattern"):
        given = method.get(key)
        if isinstance(given, (list, tuple, Mapping)):
            yield from ((key, name) for name in given if isinstance(name, str))
