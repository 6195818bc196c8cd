"""What a host says of itself: name, identity, libraries, model types."""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import importlib.util
import platform
import uuid
from pathlib import Path

import psutil

from jobs.jobfile.trackers import TRACKERS
from jobs.units import GiB
from workers.checks.libraries import PACKAGES

# What a memory profile depends on, and what some jobs need (jobs/jobfile/requirements.py).
_STACK = ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "unsloth")
# What some jobs need and no profile depends on, where it is installed.
_BESIDE = ("flash-attn", "kernels", *(name for names in TRACKERS.values() for name in names))
_WARM_FROM_BYTES = 8 * GiB  # of the host's memory: a rank actor with its imports done holds about 0.6 GiB


def machine_id(home: Path, system: Path = Path("/etc/machine-id")) -> str:
    """The same for everything on this machine; made and kept under home where the system has none."""
    with contextlib.suppress(OSError):
        if known := system.read_text().strip():
            return known
    own = home / "machine-id"
    if not own.exists():
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(uuid.uuid4().hex)
    return own.read_text().strip()


def stack() -> dict[str, str]:
    """Versions of Python and the training libraries, from their metadata: none of them is imported."""
    found = {"python": platform.python_version()}
    for name in sorted({*_STACK, *_BESIDE, *PACKAGES}):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def own_version() -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("tuneyard")
    return "unknown"


def model_types() -> list[str]:
    """The model types that the installed transformers knows; [] without transformers.

    Read from its source (CONFIG_MAPPING_NAMES in models/auto, transformers 5.23): importing it takes 3 s and
    brings torch with it.
    """
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        return []
    auto = Path(spec.origin).parent / "models" / "auto"
    found: set[str] = set()
    for name in ("auto_mappings.py", "configuration_auto.py"):
        with contextlib.suppress(FileNotFoundError):
            found |= _mapping_keys((auto / name).read_text(encoding="utf-8"))
    return sorted(found)


def _mapping_keys(source: str) -> set[str]:
    """Keys of every literal that a module assigns to CONFIG_MAPPING_NAMES or merges into it."""
    keys: set[str] = set()
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign):
            names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            names = _updated(statement.value.func)
        else:
            continue
        if "CONFIG_MAPPING_NAMES" in names:
            keys |= {key for node in ast.walk(statement.value) for key in _keys(node)}
    return keys


def _updated(called: ast.expr) -> list[str]:
    """The name before `.update`."""
    if isinstance(called, ast.Attribute) and called.attr == "update" and isinstance(called.value, ast.Name):
        return [called.value.id]
    return []


def _keys(node: ast.AST) -> list[str]:
    """The key of a (key, value) pair, or the keys of a dict."""
    if isinstance(node, ast.Tuple) and len(node.elts) == 2:
        nodes: list[ast.expr | None] = [node.elts[0]]
    elif isinstance(node, ast.Dict):
        nodes = list(node.keys)
    else:
        return []
    return [key.value for key in nodes if isinstance(key, ast.Constant) and isinstance(key.value, str)]


def warm_default() -> int:
    """Rank actors to keep with their imports done: none where memory is small."""
    return 1 if psutil.virtual_memory().total >= _WARM_FROM_BYTES else 0
