"""Checks of what a job file points at: models, data, output. They need no torch: the server runs them too."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from jobs.errors import MISSING, Fault, SpecError
from jobs.rules import architecture_faults
from jobs.spec import JobSpec
from workers.data.checks import OR_HUB_ID, check_data, is_hub_id


def check_inputs(
    spec: JobSpec, known_model_types: Collection[str] = (), limit: int | None = None
) -> list[Fault]:
    """Every fault in the files and folders that a spec names, as seen from this machine.

    known_model_types: what the hosts' transformers knows; empty: nobody has said yet, so it is not checked.
    limit: data rows to read at most; None reads all.
    """
    faults = check_data(spec.data.path, spec.data.split, limit)
    if spec.model.path is not None:
        faults += check_model(spec.model.path, () if spec.model.trust_remote_code else known_model_types)
    else:
        given = (spec.model.config or {}).get("model_type")
        faults += check_model_type(given, known_model_types, "model.config.model_type")
    if spec.model.tokenizer is not None:
        faults += check_tokenizer(spec.model.tokenizer)
    return faults


def check_model(path: str, known_model_types: Collection[str] = (), field: str = "model.path") -> list[Fault]:
    """What is wrong with a model folder; nothing is known of a hub id from here."""
    folder = Path(path)
    if not os.path.exists(path):
        if is_hub_id(path):
            return []
        return [Fault(field, path, MISSING, f"give a folder with a config.json, {OR_HUB_ID}")]
    if not folder.is_dir():
        return [Fault(field, path, "is a file", "give the folder that holds config.json")]
    config_path = folder / "config.json"
    if not config_path.is_file():
        adapter = (folder / "adapter_config.json").is_file()
        fix = (
            "it holds an adapter: give its base model"
            if adapter
            else "give a folder that save_pretrained wrote"
        )
        return [Fault(field, path, "has no config.json", fix)]
    try:
        config = json.loads(config_path.read_bytes())
    except (OSError, ValueError) as error:
        return [
            Fault(
                field,
                str(config_path),
                f"is not readable as JSON: {error}",
                "restore the model's config.json",
            )
        ]
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        return [Fault(field, str(config_path), "has no model_type", "add it, such as model_type: llama")]
    faults = check_model_type(config["model_type"], known_model_types, field)
    faults += [
        Fault(
            field, path, f"its config.json has {wrong.path} {wrong.given}, which {wrong.problem}", wrong.fix
        )
        for wrong in architecture_faults(config)
    ]
    if not any(any(folder.glob(pattern)) for pattern in ("*.safetensors", "*.bin")):
        fix = "give a complete folder, or model.config for random weights"
        faults.append(Fault(field, path, "has no weights (*.safetensors)", fix))
    return faults


def check_model_type(given: Any, known: Collection[str], field: str) -> list[Fault]:
    """Whether transformers knows this architecture. known empty: nobody has said what is known."""
    if not known or given in known:
        return []
    close = difflib.get_close_matches(str(given), known, n=1, cutoff=0.6)
    fix = (
        f"did you mean {close[0]}?"
        if close
        else "use a model_type of the installed transformers, such as llama"
    )
    return [Fault(field, str(given), "is no model type that the installed transformers knows", fix)]


def check_tokenizer(path: str) -> list[Fault]:
    """What is wrong with a tokenizer folder."""
    if not os.path.exists(path):
        if is_hub_id(path):
            return []
        return [
            Fault(
                "model.tokenizer",
                path,
                MISSING,
                f"give a folder with a tokenizer, {OR_HUB_ID}",
            )
        ]
    folder = Path(path)
    if not folder.is_dir():
        return [Fault("model.tokenizer", path, "is a file", "give the folder that holds it")]
    known = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
    if not any((folder / name).is_file() for name in known):
        return [Fault("model.tokenizer", path, "holds no tokenizer", f"it needs one of {', '.join(known)}")]
    return []


def resolve_output(output_root: Path | str, spec: JobSpec, job_id: int) -> Path:
    """The folder of a job's result, links followed. Raises SpecError if it is not inside the root."""
    root = Path(os.path.realpath(output_root))
    name = spec.output or f"job-{job_id}" + (f"-{spec.name}" if spec.name else "")
    folder = Path(os.path.realpath(root / name))
    if folder == root or not folder.is_relative_to(root):
        given = name if str(folder) == str(root / name) else f"{name}, which is {folder}"
        fix = "name a folder inside the host's output root"
        raise SpecError([Fault("output", given, f"is not inside {root}", fix)])
    return folder
