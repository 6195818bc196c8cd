"""The weights of a checkpoint put back into a model: every one of them, or the attempt ends with what is missing.

transformers 5.23 (Trainer._load_from_checkpoint) loads files by name and passes over what has no place: models whose
files name weights otherwise than the module does, as fused experts, would go on with what they were built with.
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import PreTrainedModel

from jobs.errors import TuneyardError
from jobs.units import counted

_NAMED = 3


class NotPutBack(TuneyardError):
    """A checkpoint whose weights are not those that the model takes."""


def put_back(model: PreTrainedModel, folder: Path) -> None:
    """All weights of a checkpoint, as save_pretrained wrote them. Raises NotPutBack where the model wants others.

    Before the optimizer is made: for a moment the weights may be there twice, which is less than training takes.
    """
    files = sorted(folder.glob("model*.safetensors"))
    there = set().union(*map(_names, files)) if files else set()
    wanted = set(model.state_dict())
    tied = set(model.all_tied_weights_keys)
    if there <= wanted and wanted - there <= tied:
        for file in files:
            model.load_state_dict(load_file(file), strict=False)
        return
    saved, found = type(model).from_pretrained(
        folder, config=model.config, dtype=model.dtype, output_loading_info=True
    )
    lacking = sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])} - tied)
    if lacking:
        raise NotPutBack(_said(folder, lacking))
    with torch.no_grad():
        model.load_state_dict(saved.state_dict(), strict=True)


def check_adapter(model: PeftModel, folder: Path) -> None:
    """Raises NotPutBack where an adapter that was just loaded has other weights than its checkpoint."""
    saved = load_file(folder / "adapter_model.safetensors")
    there = get_peft_model_state_dict(model, save_embedding_layers=False)
    unlike = sorted(
        name
        for name, weight in there.items()
        if name not in saved or not torch.equal(saved[name], weight.detach().cpu().to(saved[name].dtype))
    )
    if unlike:
        raise NotPutBack(_said(folder, unlike))


def _names(file: Path) -> set[str]:
    with safe_open(file, framework="pt") as opened:
        return set(opened.keys())


def _said(folder: Path, names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        f"checkpoint {folder.name} can't be gone on from: {counted(len(names), 'weight')} of the model would not be "
        f"its, such as {', '.join(names[:_NAMED])}{more}"
    )
