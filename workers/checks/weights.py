"""The weights in a model folder, by their headers alone: all there, whole, and as config.json says. Needs no torch."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jobs.errors import UNREADABLE, Fault
from workers.input_errors import type_of
from workers.lfs_pointers import is_pointer, pointer_fault

# What from_pretrained looks for in a folder, in its order (transformers 5.23, _get_resolved_checkpoint_files).
_USED = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_INDEX = ".index.json"
# What transformers does not train from, by the end of its name.
_OTHER = {
    ".gguf": "GGUF",
    ".h5": "TensorFlow",
    ".msgpack": "Flax",
    ".pth": "PyTorch's own (.pth)",
    ".pt": "PyTorch's own (.pt)",
    ".onnx": "ONNX",
    ".npz": "NumPy",
}
_MOST_HEADER = 100_000_000  # bytes: safetensors' own limit
_NAMED = 3  # tensors in a fault
_AGAIN = "download or save it again"
_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings)\.weight")
_LAYER = re.compile(r"(?:(?:model|transformer|gpt_neox|language_model)\.)*(?:layers|h)\.(\d+)\.")

Shapes = dict[str, tuple[int, ...]]


NO_WEIGHTS = "has no weights (*.safetensors)"


class _Bad(Exception):
    """A file that won't do; carries the fault."""

    def __init__(self, path: Path, problem: str, fix: str = _AGAIN) -> None:
        self.path, self.problem, self.fix = path, problem, fix


def weight_faults(folder: Path, config: Mapping[str, Any], field: str = "model.path") -> list[Fault]:
    """The first thing wrong with the weights of a folder that from_pretrained would load."""
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        # from_pretrained follows the file to its base model, whatever weights are beside it.
        problem = "holds an adapter (adapter_config.json), so another model would be loaded in its place"
        return [Fault(field, str(folder), problem, f"give {_base(adapter)}, or a folder with merged weights")]
    if "transformers_weights" in config:  # names another file: left to transformers
        return _named_weights(folder, config["transformers_weights"], field)
    used = next((folder / name for name in _USED if (folder / name).is_file()), None)
    if used is None:
        return [_none(folder, field)]
    try:
        if is_pointer(used):
            return [pointer_fault(field, used)]
        shapes = _indexed(folder, used) if used.name.endswith(_INDEX) else _checked(used)
    except _Pointer as error:
        return [pointer_fault(field, error.path)]
    except _Bad as error:
        return [Fault(field, str(error.path), error.problem, error.fix)]
    except OSError as error:
        return [
            Fault(field, str(error.filename or used), f"{UNREADABLE}{error.strerror}", "make it readable")
        ]
    return _unlike(folder, shapes, config, field)


def _named_weights(folder: Path, named: Any, field: str) -> list[Fault]:
    """What is wrong with the name that config.json gives its weights."""
    here, fix = str(folder / "config.json"), "name a file of weights in the model's folder, or leave it out"
    if not isinstance(named, str):
        problem = f"has a transformers_weights that is {type_of(named)}, not a file name"
        return [Fault(field, here, problem, fix)]
    if _is_outside(named):
        problem = f"names {named}, which is outside of the model's folder"
        return [Fault(field, here, problem, fix)]
    if not (folder / named).is_file():
        return [Fault(field, str(folder / named), "is missing, which config.json names", fix)]
    return []


class _Pointer(Exception):
    """A shard that is a pointer."""

    def __init__(self, path: Path) -> None:
        self.path = path


def weight_report(path: str, found: dict[str, Any]) -> list[Fault]:
    """The fault in what from_pretrained says of a load (output_loading_info)."""
    fix = "give the config.json that belongs to these weights, or download the missing files"
    if unlike := sorted(found["mismatched_keys"]):
        name, there, wanted = unlike[0]
        more = f" (and {len(unlike) - 1} more tensors)" if len(unlike) > 1 else ""
        problem = f"does not fit config.json: {name} is {_shape(there)}, not {_shape(wanted)}{more}"
        return [Fault("model.path", path, problem, fix)]
    if missing := sorted(found["missing_keys"]):
        named = ", ".join(missing[:_NAMED]) + (
            f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        )
        return [Fault("model.path", path, f"its weights lack {named}, which would be random", fix)]
    return []


def left_over(found: Mapping[str, Any], config: Any) -> str:
    """Tensors that the weights have and the model that config.json describes has no place for; empty without any.

    found: output_loading_info; config: the model's. Some are no fault: published models bring layers that predict
    further tokens.
    """
    names = sorted(found["unexpected_keys"])
    if not names:
        return ""
    text = config.get_text_config()
    layers, there = getattr(text, "num_hidden_layers", None), _layers(names)
    if isinstance(layers, int) and there > layers:
        s = "" if layers == 1 else "s"
        return (
            f"The model has {layers} layer{s}, as config.json says, and its weights have {there}: the others are left "
            "out. Correct num_hidden_layers if they belong to it."
        )
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        f"The weights have tensors that the model has no place for, which are left out: {', '.join(names[:_NAMED])}"
        f"{more}."
    )


def _base(adapter: Path) -> str:
    """Its base model, in words."""
    try:
        named = json.loads(adapter.read_bytes()).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        named = None
    return f"its base model ({named})" if named else "its base model"


def _none(folder: Path, field: str) -> Fault:
    """What is said where there is nothing to load."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    stray = [name for name in names if name.endswith((".safetensors", ".bin")) and "adapter" not in name]
    if stray:
        kind = "model.safetensors" if stray[0].endswith(".safetensors") else "pytorch_model.bin"
        problem = f"has {stray[0]}, but neither {kind} nor {kind}{_INDEX}, so nothing would be loaded"
        fix = f"download {kind}{_INDEX} too, or rename the file to {kind} if it is the only one"
        return Fault(field, str(folder), problem, fix)
    other = next((kind for name in names for end, kind in _OTHER.items() if name.endswith(end)), None)
    problem = NO_WEIGHTS + (f", only {other} ones, which can't be trained" if other else "")
    fix = "give a complete folder, or model.config for random weights"
    return Fault(
        field, str(folder), problem, fix if other is None else "give a folder with model.safetensors"
    )


def _indexed(folder: Path, index: Path) -> Shapes:
    """Shapes of what an index names. Raises _Bad, _Pointer."""
    placed = _placed(index)
    shapes: Shapes = {}
    shards = sorted(set(placed.values()))
    if outside := next((name for name in shards if _is_outside(name)), None):
        problem = f"names {outside}, which is outside of the model's folder"
        raise _Bad(index, problem, "put all files of the model into one folder, and name them in the index")
    if missing := [name for name in shards if not (folder / name).is_file()]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        problem = f"is missing{more}, which {index.name} names"
        raise _Bad(folder / missing[0], problem, "download the missing files again")
    for name in shards:
        if is_pointer(folder / name):
            raise _Pointer(folder / name)
        shapes |= _checked(folder / name)
    return shapes


def _placed(index: Path) -> dict[str, str]:
    """File by tensor, as an index says. Raises _Bad."""
    try:
        value = json.loads(index.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _Bad(index, f"is not readable as JSON: {error}") from None
    if not isinstance(value, dict):
        raise _Bad(index, f"is {type_of(value)}, not an object with a weight_map")
    for key in ("weight_map", "metadata"):  # transformers needs both
        if key not in value:
            raise _Bad(index, f"has no {key}, so it is no index of weights")
        if not isinstance(value[key], dict):
            raise _Bad(index, f"has a {key} that is {type_of(value[key])}, not an object")
    placed: dict[str, str] = value["weight_map"]
    if not placed:
        raise _Bad(index, "names no tensors (weight_map is empty)")
    if odd := next((name for name, file in placed.items() if not isinstance(file, str) or not file), None):
        raise _Bad(index, f"names no file for {odd}: {type_of(placed[odd])} instead of a name")
    return placed


def _is_outside(name: str) -> bool:
    """Whether the name of a file leads out of its folder."""
    return os.path.isabs(name) or os.path.normpath(name).split(os.sep)[0] == os.pardir


def _checked(path: Path) -> Shapes:
    """Shapes of the tensors in a file of weights; none of a pickle, which is not opened. Raises _Bad."""
    if path.stat().st_size == 0:
        raise _Bad(path, "is empty")
    if path.suffix == ".safetensors":
        return safetensors_shapes(path)
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    if zipped and not zipfile.is_zipfile(path):
        raise _Bad(path, "is cut off: its end is missing")
    return {}


def safetensors_shapes(path: Path) -> Shapes:
    """Shapes by name, after the header was held against the file (safetensors' format). Raises _Bad."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > _MOST_HEADER:
            raise _Bad(path, "is no safetensors file: its header is broken")
        if size < 8 + length:
            raise _Bad(path, f"is cut off within its header: it has {size:,} bytes")
        header = file.read(length)
    try:
        entries = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in entries.items()}
        ends = [int(entry["data_offsets"][1]) for entry in entries.values()]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise _Bad(path, "is no safetensors file: its header is broken") from None
    if not shapes:
        raise _Bad(path, "holds no tensors")
    wanted = 8 + length + max(ends)
    if size != wanted:
        how = "is cut off" if size < wanted else "does not match its header"
        raise _Bad(path, f"{how}: it has {size:,} bytes, its header says {wanted:,}")
    return shapes


def _unlike(folder: Path, shapes: Shapes, config: Mapping[str, Any], field: str) -> list[Fault]:
    """Where weights are not of the sizes that config.json says; only what is plain for every architecture."""
    said = _text(config)
    fix = "give the config.json that belongs to these weights"
    here = str(folder / "config.json")
    found = [(name, shape) for name, shape in shapes.items() if _EMBEDDING.search(name) and len(shape) == 2]
    if len(found) == 1:
        name, (rows, width) = found[0]
        vocabulary = said.get("vocab_size")
        if isinstance(vocabulary, int) and vocabulary != rows:
            problem = f"says vocab_size {vocabulary:,}, but {name} has {rows:,} rows"
            return [Fault(field, here, problem, fix)]
        hidden = said.get("hidden_size", said.get("n_embd"))
        own = {"embedding_size", "word_embed_proj_dim"} & said.keys()  # a width of its own
        if isinstance(hidden, int) and not own and hidden != width:
            problem = f"says hidden_size {hidden:,}, but {name} is {width:,} wide"
            return [Fault(field, here, problem, fix)]
    layers = said.get("num_hidden_layers", said.get("n_layer"))
    there = _layers(shapes)
    if isinstance(layers, int) and there and there < layers:
        problem = f"says {layers} layers, but the weights have {there}"
        return [Fault(field, here, problem, f"{fix}, or download the missing files")]
    return []


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config that is about the text model."""
    text = config.get("text_config")
    return text if isinstance(text, Mapping) else config


def _layers(names: Iterable[str]) -> int:
    """Layers by their numbers; 0 where none has one."""
    numbers = [int(match[1]) for name in names if (match := _LAYER.match(name))]
    return max(numbers) + 1 if numbers else 0


def _shape(sizes: Any) -> str:
    return " x ".join(f"{size:,}" for size in sizes)
