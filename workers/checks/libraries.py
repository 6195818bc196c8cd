"""Libraries that the files of a model ask for, and whether its quantised weights can be trained. Needs no torch."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.errors import Fault
from workers.input_errors import type_of

if TYPE_CHECKING:  # a client of the host's facts needs no pydantic
    from jobs.jobfile.spec import JobSpec

Needs = tuple[tuple[str, str], ...]  # packages, and what needs them

# Packages by quant_method (transformers 5.23, quantizers/).
_PACKAGES: dict[str, tuple[str, ...]] = {
    "gptq": ("optimum", "gptqmodel"),
    "awq": ("gptqmodel",),
    "bitsandbytes": ("bitsandbytes",),
    "aqlm": ("aqlm",),
    "quanto": ("optimum-quanto",),
    "hqq": ("hqq",),
    "compressed-tensors": ("compressed-tensors",),
    "torchao": ("torchao",),
    "sinq": ("sinq",),
    "eetq": ("kernels",),
}
PACKAGES = tuple(
    sorted({name for names in _PACKAGES.values() for name in names} | {"sentencepiece", "tiktoken"})
)
# Those whose quantizer says is_trainable False, whatever the host has.
_NOT_TRAINED = frozenset(
    {"auto-round", "fbgemm_fp8", "gemma", "gguf", "higgs", "metal", "nvfp4", "quark", "spqr", "vptq"}
)
# Those that are trained only where their config says so, by its own default not.
_TRAINED_WHERE: dict[str, dict[str, Any]] = {
    "bitnet": {"linear_class": "autobitlinear", "quantization_mode": "online"},
    "fouroversix": {"keep_master_weights": True},
    "fp_quant": {"store_master_weights": True},
}
# Those of which adapters alone are trained: of fp8's layers the weights are given no gradient, and no library says so.
_ADAPTERS_ONLY = frozenset(
    {"aqlm", "awq", "bitsandbytes", "eetq", "fp8", "gptq", "hqq", "mxfp8", "quanto", "sinq"}
)
# Those that are unpacked while they are loaded, or have a training of their own: who trains them will say.
_OTHERS = frozenset({"compressed-tensors", "mxfp4", "torchao"})
_KNOWN = _NOT_TRAINED | _ADAPTERS_ONLY | _OTHERS | _TRAINED_WHERE.keys()
_SENTENCEPIECE_ENDS = (".model", ".spm")
_INSTEAD = "give the folder of the model before it was quantised"


def needs_of(spec: JobSpec) -> Needs:
    """What the model and tokenizer folders of a job need installed; nothing where this machine does not see them."""
    config = _config(spec)
    source = spec.model.tokenizer or spec.model.path
    return (*quantised_needs(spec, config), *(tokenizer_needs(Path(source)) if source else ()))


def tokenizer_needs(folder: Path) -> Needs:
    """The library that reads a tokenizer's vocabulary; none where tokenizer.json stands beside it."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return ()
    if "tokenizer.json" in names:
        return ()
    what = f"the tokenizer in {folder} (it has no tokenizer.json)"
    for name in names:
        if name.endswith(".tiktoken"):
            return (("tiktoken", what),)
        if name.endswith(_SENTENCEPIECE_ENDS):
            return (("tiktoken" if _is_tiktoken(folder / name) else "sentencepiece", what),)
    return ()


def quantised_faults(spec: JobSpec, config: Mapping[str, Any] | None = None) -> list[Fault]:
    """Why the quantised weights of a model folder can't be trained by the job's method."""
    config = _config(spec) if config is None else config
    found = _quantisation(config)
    here = str(Path(spec.model.path or "") / "config.json")
    if found is None:
        return []
    if not isinstance(found, Mapping):
        problem = f"has a quantization_config that is {type_of(found)}, not an object"
        return [Fault("model.path", here, problem, "restore the model's config.json")]
    method = _quant_method(found)
    if not method:
        problem = "has a quantization_config without a quant_method"
        return [Fault("model.path", here, problem, "restore the model's config.json")]
    kind = spec.method.kind
    if why := _never_trained(method, found):
        return [Fault("model.path", here, f"says that the weights are quantised ({method}), {why}", _INSTEAD)]
    if kind == "full" and method in _ADAPTERS_ONLY:
        problem = f"trains all weights, and those of {spec.model.path} are quantised ({method})"
        return [Fault("method.kind", kind, problem, f"use lora, or {_INSTEAD}")]
    eight = method == "bitsandbytes" and found.get("load_in_8bit")
    if kind == "qlora" and (eight or method != "bitsandbytes"):
        packed = "in 8 bits" if eight else method
        problem = (
            f"packs the weights in 4 bits, and those of {spec.model.path} are quantised already ({packed})"
        )
        return [Fault("method.kind", kind, problem, f"use lora, or {_INSTEAD}")]
    return []


def _never_trained(method: str, found: Mapping[str, Any]) -> str:
    """Why no host can train such weights, whatever it has installed; "" where one may."""
    if method in _NOT_TRAINED:
        return "which can't be trained"
    if method not in _KNOWN:
        return "which transformers can't read"
    wanted = _TRAINED_WHERE.get(method, {})
    if all(found.get(key) == value for key, value in wanted.items()):
        return ""
    asked = " and ".join(f"{key}: {str(value).lower()}" for key, value in wanted.items())
    return f"which can be trained only with {asked}"


def counted_whole(spec: JobSpec, config: Mapping[str, Any] | None = None) -> list[str]:
    """What a user should know of a base that is quantised already: a trace builds it from its config alone."""
    found = _quantisation(_config(spec) if config is None else config)
    method = _quant_method(found) if isinstance(found, Mapping) else ""
    if not method or found.get("load_in_4bit"):  # which is traced as packed
        return []
    return [
        f"The weights of {spec.model.path} are quantised ({method}) and are projected as if they were not: it takes "
        f"less memory than projected."
    ]


def quantised_needs(spec: JobSpec, config: Mapping[str, Any] | None = None) -> Needs:
    """What the quantised weights of a model folder need; nothing where they are not."""
    found = _quantisation(_config(spec) if config is None else config)
    method = _quant_method(found) if isinstance(found, Mapping) else ""
    what = f"the model in {spec.model.path}, whose weights are quantised ({method}),"
    return tuple((package, what) for package in _PACKAGES.get(method, ()))


def _quantisation(config: Mapping[str, Any]) -> Any:
    """What a config says of it; None where nothing."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for key in ("quantization_config", "compression_config"):
            if part.get(key) is not None:
                return part[key]
    return None


def _quant_method(found: Mapping[str, Any]) -> str:
    if found.get("load_in_4bit") or found.get("load_in_8bit"):
        return "bitsandbytes"
    method = found.get("quant_method")
    return method if isinstance(method, str) else ""


def _config(spec: JobSpec) -> Mapping[str, Any]:
    """config.json of the model's folder; empty where there is none to be seen."""
    if spec.model.path is None:
        return {}
    try:
        value = json.loads((Path(spec.model.path) / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_tiktoken(path: Path) -> bool:
    """Whether a vocabulary is tiktoken's text, a token in base64 and its rank a line, not sentencepiece's bytes."""
    try:
        with path.open("rb") as file:
            token, _, rank = file.readline(4096).strip().partition(b" ")
        base64.b64decode(token, validate=True)
    except (OSError, binascii.Error):
        return False
    return bool(token) and rank.isdigit()
