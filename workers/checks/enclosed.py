"""Files that a job file points at and that travel in it: the text of a chat template stands where its name stood."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.errors import Fault, SpecError
from jobs.jobfile.options.templates import MOST_CHARACTERS, SUFFIXES

KEY = "model.chat_template"


def enclosed(
    text: str | None, spec: Mapping[str, Any], overrides: Mapping[str, Any], base: Path
) -> dict[str, str]:
    """Overrides that put the text of files in the place of their names. base: the folder of relative names.

    text, spec: a job file as text, or as a mapping. Raises SpecError for a file that can't be read.
    """
    said = overrides.get(KEY)
    if said is None and text is not None and any(suffix in text for suffix in SUFFIXES):
        from jobs.jobfile.loader import (
            parse_yaml,  # here: YAML is slow to import, and hardly any job needs it
        )

        try:
            spec = parse_yaml(text)
        except SpecError:
            return {}  # the server tells of it
    if said is None:
        model = spec.get("model")
        said = model.get("chat_template") if isinstance(model, Mapping) else None
    if not isinstance(said, str) or not said.endswith(SUFFIXES) or "{" in said:
        return {}
    return {KEY: _read(base / Path(said).expanduser(), said)}


def _read(path: Path, said: str) -> str:
    try:
        found = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError([Fault(KEY, said, "is not there", f"looked for {path}")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError([Fault(KEY, said, f"can't be read: {error}", "give a text file in UTF-8")]) from None
    if len(found) > MOST_CHARACTERS:
        problem = f"has {len(found):,} characters, and {MOST_CHARACTERS:,} is the most"
        raise SpecError([Fault(KEY, said, problem, "save the tokenizer with it, as model.tokenizer")])
    return found
