"""Which layers of a model are alike, and a model cut down to one of each.

Layers are compared by structure: classes, shapes of weights, the plain values that steer their code, and what the
config says of each layer (attention type, expert or dense). The whole model is built first, without memory, and layers
are then taken out of it: so a layer that is dense because it is the third, or sliding because it is odd, stays so.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from jobs.errors import ProfileError

MOST_KINDS = 12  # traced between the first and the last layer; more would take longer than a trace is given
_SUFFIXES = ("", *(f".{letter}" for letter in "bcdefghijklmnopqrstuvwxyz"))
# Numbers by which a layer knows its place; they differ from layer to layer and change nothing.
_PLACE = re.compile(r"layer|idx|index|depth|block_id|^training$|^_")


def stack(base: PreTrainedModel) -> list[nn.Module]:
    """The layers that text runs through, in order. Raises ProfileError where there are none to checkpoint."""
    kind = base.config.model_type
    decoder = base.get_decoder() if hasattr(base, "get_decoder") else base
    found = _outermost(decoder if isinstance(decoder, nn.Module) else base) or _outermost(base)
    if not found:
        raise ProfileError(
            f"{kind} can't be traced: none of its modules is a transformers GradientCheckpointingLayer, so there is "
            "no telling where a layer ends; use an architecture whose layers are (model code of transformers 4.53 "
            "or newer), or ask for its layers to become such"
        )
    return found


def _outermost(root: nn.Module) -> list[nn.Module]:
    inner: set[int] = set()
    found = []
    for module in root.modules():
        if isinstance(module, GradientCheckpointingLayer) and id(module) not in inner:
            found.append(module)
            inner |= {id(below) for below in module.modules()}
    return found


def names(base: PreTrainedModel, layers: Sequence[nn.Module]) -> tuple[str, ...]:
    """The segment name of each layer: first, last, and by kind between them. Raises ProfileError for too many kinds."""
    config = base.config.get_text_config(decoder=True)
    closing = _last_to_share(layers)
    between = [(index in closing, *_signature(config, layers, index)) for index in range(1, len(layers) - 1)]
    kinds = [kind for kind, _ in Counter(between).most_common()]
    if len(kinds) > MOST_KINDS:
        raise ProfileError(
            f"{base.config.model_type} can't be traced: its layers are of {len(kinds)} kinds, where {MOST_KINDS} at "
            "most can be told apart in the time of a trace"
        )
    label = {kind: f"layer{_SUFFIXES[index]}" for index, kind in enumerate(kinds)}
    return ("first", *(label[kind] for kind in between), "last")[-len(layers) :]


def _last_to_share(layers: Sequence[nn.Module]) -> set[int]:
    """Of the layers that use the keys and values of another one, the last that does.

    In the backward pass it runs first and takes room for their gradients; the others add to those (Gemma 3n and 4).
    """
    last: dict[str, int] = {}
    for index, layer in enumerate(layers):
        for module in layer.modules():
            if getattr(module, "is_kv_shared_layer", False):
                last[str(getattr(module, "layer_type", ""))] = index
    return {*last.values()}


def _signature(config: PretrainedConfig, layers: Sequence[nn.Module], index: int) -> tuple[Any, ...]:
    said = tuple(
        (key, repr(value[index]))
        for key, value in sorted(vars(config).items())
        if isinstance(value, (list, tuple)) and len(value) == len(layers) and value != [*range(len(layers))]
    )
    return (*said, *(_traits(name, module) for name, module in layers[index].named_modules()))


def _traits(name: str, module: nn.Module) -> tuple[Any, ...]:
    weights = tuple(
        (key, tuple(parameter.shape), str(parameter.dtype))
        for key, parameter in module._parameters.items()
        if parameter is not None
    )
    steering = tuple(
        (key, bool(value) if isinstance(value, float) else value)
        for key, value in sorted(vars(module).items())
        if (value is None or isinstance(value, (bool, int, float, str))) and not _PLACE.search(key)
    )
    return (name, type(module).__name__, weights, steering)


def chosen(order: Sequence[str], copies: int) -> list[int]:
    """Indices of the layers that stand for all: the first, the last, and the earliest `copies` of each kind between.

    The earliest, as what layers share (an attention mask) goes with the lowest one that needs it.
    """
    seen: Counter[str] = Counter()
    kept = []
    for index, name in enumerate(order):
        seen[name] += 1
        if seen[name] <= copies:
            kept.append(index)
    return kept


def keep(base: PreTrainedModel, layers: Sequence[nn.Module], indices: Sequence[int]) -> list[nn.Module]:
    """Take every other layer out of base, on the meta device still. The kept ones, in order.

    The config's count of layers stays: it sizes what some models keep beside their layers (Gemma 3n).
    """
    whole, kept = len(layers), [layers[index] for index in indices]
    if len(kept) == whole:
        return kept
    gone = {id(layer) for layer in layers} - {id(layer) for layer in kept}
    for module in base.modules():
        for name, value in list(module._modules.items()):
            if isinstance(value, nn.ModuleList) and any(id(item) in gone for item in value):
                left = [item for item in value if id(item) not in gone]
                module._modules[name] = nn.ModuleList(left)
    for holder in _holders(base):
        for key, value in list(vars(holder).items()):
            if isinstance(value, (list, tuple)) and len(value) == whole:
                vars(holder)[key] = type(value)(value[index] for index in indices)
        if isinstance(holder, PretrainedConfig):
            _cut_properties(holder, whole, indices)
    return kept


def _cut_properties(config: PretrainedConfig, whole: int, indices: Sequence[int]) -> None:
    """The same for lists with an entry for each layer that a config works out again each time (Bamba, Jamba)."""
    cut = {}
    for key, value in inspect.getmembers_static(type(config), lambda found: isinstance(found, property)):
        if key.startswith("_") or "layer" not in key:
            continue
        value = getattr(config, key, None)
        if isinstance(value, list) and len(value) == whole:
            cut[key] = [value[index] for index in indices]
    if cut:
        config.__class__ = type(type(config).__name__, (type(config),), dict.fromkeys(cut))
        vars(config).update(cut)


def _holders(base: PreTrainedModel) -> Iterable[Any]:
    """What may hold a list with an entry for each layer: the modules, and their configs."""
    seen: dict[int, Any] = {}
    for module in base.modules():
        seen[id(module)] = module
        config = getattr(module, "config", None)
        if isinstance(config, PretrainedConfig):
            seen[id(config)] = config
            text = config.get_text_config(decoder=True)
            seen[id(text)] = text
    return seen.values()
