"""Checks of what a job file points at: models, data, output. They need no torch: the server runs them too."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from jobs.errors import MISSING, UNREADABLE, Fault, SpecError
from jobs.jobfile.cross_field_rules import architecture_faults
from jobs.jobfile.spec import JobSpec
from workers.checks.libraries import quantised_faults
from workers.checks.weights import weight_faults
from workers.data.checks import OR_HUB_ID, check_data, is_hub_id
from workers.data.layout import Layout
from workers.input_errors import type_of
from workers.lfs_pointers import is_pointer, pointer_fault

NO_TOKENIZER = "holds no tokenizer"
_VOCABULARIES = ("tokenizer.model", "vocab.json", "vocab.txt", "merges.txt")
_VOCABULARY_ENDS = (".model", ".tiktoken", ".spm")
# Other names of vocabularies (transformers 5.23, VOCAB_FILES_NAMES), and tokenizers that have none.
_LIKE_VOCABULARY = re.compile(
    r"vocab|merges|bpe|tekken|encoder|dict|sentencepiece|^tokenizer\.", re.IGNORECASE
)
_BY_CHARACTER = ("ByT5", "Canine", "Perceiver")
_BESIDE = (
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.json", "chat_template.jinja"),
)


def check_inputs(
    spec: JobSpec, known_model_types: Collection[str] = (), limit: int | None = None
) -> list[Fault]:
    """Every fault in the files and folders that a spec names, as seen from this machine.

    known_model_types: what the hosts' transformers knows; empty: nobody has said yet, so it is not checked.
    limit: data rows to read at most; None reads all.
    """
    faults = check_data(
        spec.data.path, spec.data.split, limit, spec.data.loss_on, Layout.of(spec.data, spec.trainer)
    )
    if spec.model.path is not None:
        found = check_model(spec.model.path, () if spec.model.trust_remote_code else known_model_types)
        faults += found or quantised_faults(spec)
    else:
        given = (spec.model.config or {}).get("model_type")
        faults += check_model_type(given, known_model_types, "model.config.model_type")
    faults += check_tokenizer_of(spec)
    return faults


def check_tokenizer_of(spec: JobSpec) -> list[Fault]:
    """What is wrong with a job's tokenizer: its own, or the one in its model's folder."""
    if spec.model.tokenizer is not None:
        return check_tokenizer(spec.model.tokenizer)
    folder = Path(spec.model.path or "")
    if spec.model.path is None or not (folder / "config.json").is_file():
        return []  # a hub id, or a folder that has been found wanting
    found = _tokenizer_files(folder, "model.path")
    if found and found[0].problem == NO_TOKENIZER:
        fix = "set model.tokenizer, or save the tokenizer into the folder"
        return [Fault("model.path", str(folder), found[0].problem, fix)]
    return found


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
    if is_pointer(config_path):
        return [pointer_fault(field, config_path)]
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
    except (OSError, ValueError, RecursionError) as error:
        return [
            Fault(
                field,
                str(config_path),
                f"is not readable as JSON: {error}",
                "restore the model's config.json",
            )
        ]
    if not isinstance(config, dict):
        problem = f"is {type_of(config)}, not an object"
        return [Fault(field, str(config_path), problem, "restore the model's config.json")]
    if not isinstance(config.get("model_type"), str):
        return [Fault(field, str(config_path), "has no model_type", "add it, such as model_type: llama")]
    faults = check_model_type(config["model_type"], known_model_types, field)
    faults += [
        Fault(
            field, path, f"its config.json has {wrong.path} {wrong.given}, which {wrong.problem}", wrong.fix
        )
        for wrong in architecture_faults(config)
    ]
    faults += _small_files(folder, ("generation_config.json",), field)
    return faults + weight_faults(folder, config, field)


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


def _small_files(folder: Path, names: Collection[str], field: str) -> list[Fault]:
    """The first of these JSON files, as far as they are there, that is a pointer, not readable or no object."""
    for path in (folder / name for name in names if (folder / name).is_file()):
        if is_pointer(path):
            return [pointer_fault(field, path)]
        if path.suffix != ".json":
            continue
        try:
            value = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            return [Fault(field, str(path), f"is not readable as JSON: {error}", "download the file again")]
        except OSError as error:
            return [Fault(field, str(path), f"{UNREADABLE}{error.strerror}", "make it readable")]
        if not isinstance(value, dict):
            return [Fault(field, str(path), f"is {type_of(value)}, not an object", "download the file again")]
    return []


def _tokenizer_files(folder: Path, field: str) -> list[Fault]:
    """What is wrong with the files of a tokenizer, as far as it shows without loading it."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    vocabulary = [name for name in names if name in _VOCABULARIES or name.endswith(_VOCABULARY_ENDS)]
    if "tokenizer.json" in names:
        vocabulary = ["tokenizer.json"]  # it is enough; the others are not read
    if not vocabulary and "tokenizer_config.json" not in names:
        known = ", ".join(("tokenizer.json", "tokenizer_config.json", *_VOCABULARIES))
        return [Fault(field, str(folder), NO_TOKENIZER, f"it needs one of {known}")]
    if not vocabulary and not any(map(_LIKE_VOCABULARY.search, names)) and not _needs_none(folder):
        problem = "holds no vocabulary of a tokenizer: tokenizer.json is missing"
        return [Fault(field, str(folder), problem, "download the missing files, or save the tokenizer again")]
    for path in (folder / name for name in vocabulary):
        if is_pointer(path):
            return [pointer_fault(field, path)]
        if path.suffix == ".json" and (problem := _no_object(path)):
            return [Fault(field, str(path), problem, "download it again")]
    return _small_files(folder, _BESIDE, field)


def _needs_none(folder: Path) -> bool:
    """Whether a tokenizer does without a vocabulary: it counts bytes or characters, or has code of its own."""
    try:
        said = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return True  # which is told elsewhere
    if not isinstance(said, dict):
        return True
    return bool(said.get("auto_map")) or str(said.get("tokenizer_class")).startswith(_BY_CHARACTER)


def _no_object(path: Path) -> str:
    """What is wrong with a JSON file that is to hold an object, empty if nothing.

    By its first and last characters: tens of megabytes are not parsed at each submission.
    """
    with path.open("rb") as file:
        first = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        file.seek(max(0, path.stat().st_size - 64))
        last = file.read().rstrip()[-1:]
    if last not in (b"}", b"]"):
        return "is cut off: it does not end as JSON does"
    return "" if (first, last) == (b"{", b"}") else "is not a JSON object"


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
    return _tokenizer_files(folder, "model.tokenizer")


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
