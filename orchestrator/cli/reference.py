"""Writes docs/job-file.md from the job file's schema: `python -m orchestrator.cli.reference [--check]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from jobs.spec import schema
from orchestrator.cli.jobfile import EXAMPLES

TARGET = Path(__file__).resolve().parents[2] / "docs" / "job-file.md"

INTRO = """\
# The job file

A job file is YAML: at most 256 KiB, no tags, no aliases. `tuneyard init` writes one to begin from,
`tuneyard submit FILE --dry-run` validates it and reports every fault at once, and `tuneyard schema` prints
its JSON schema for editors.

- Only `model` and `data` are required. `model`, `data` and `method` may be a plain string: `model: org/name`
  stands for `model: {path: org/name}`, `method: full` for `method: {kind: full}`.
- Relative paths are read from the job file's folder.
- Sizes and durations have units: `24GiB`, `700MiB`; `90s`, `4h`, `1h30m`.
- A job file with a `matrix` makes a group of jobs, one for each combination of its values. Those of a group with a
  name are called NAME-1, NAME-2 and so on; where `output` is set, theirs are the folders 1, 2 and so on in it.
- Flags of `tuneyard submit` are laid over the file: `--steps 20`, or any key by `--set training.steps=20`.

This page is made from the schema by `python -m orchestrator.cli.reference`.
"""


def reference() -> str:
    """The whole page."""
    made = schema()
    top = made["properties"]
    parts = [INTRO, "## Keys\n", _table(top, made.get("required", []))]
    for name, value in top.items():
        parts += _section(name, value, made["$defs"])
    parts += ["## Examples\n", "`tuneyard init --example NAME` writes one of these.\n"]
    for file in sorted(EXAMPLES.glob("*.yaml")):
        parts.append(f"### {file.stem}\n\n```yaml\n{file.read_text(encoding='utf-8').rstrip()}\n```\n")
    return "\n".join(parts)


def _section(name: str, value: dict[str, Any], sections: dict[str, Any]) -> list[str]:
    """The chapter of a key that has keys of its own, and those of its keys that have; nothing for any other."""
    target = next((option["$ref"] for option in (value, *value.get("anyOf", ())) if "$ref" in option), None)
    if target is None:
        return []
    section = sections[target.rpartition("/")[2]]
    keys = section["anyOf"][0] if "anyOf" in section else section
    about = " ".join(section["description"].split())
    parts = [f"## {name}\n", about + "\n", _table(keys["properties"], keys.get("required", []))]
    for inner, of in keys["properties"].items():
        parts += _section(f"{name}.{inner}", of, sections)
    return parts


def _table(properties: dict[str, Any], required: list[str]) -> str:
    rows = ["| key | value | default | what it is |", "|---|---|---|---|"]
    for name, value in properties.items():
        default = "**required**" if name in required else _default(value)
        what = value.get("description", "").replace("|", "\\|")
        rows.append(f"| `{name}` | {_kind(value)} | {default} | {what} |")
    return "\n".join(rows) + "\n"


def _default(value: dict[str, Any]) -> str:
    given = value.get("default")
    if given in (None, "", []) or isinstance(given, dict):
        return ""
    return f"`{str(given).lower() if isinstance(given, bool) else given}`"


def _kind(value: dict[str, Any]) -> str:
    """What may stand there, in words."""
    if "$ref" in value:
        return "see below"
    if "anyOf" in value:
        kinds = [_kind(option) for option in value["anyOf"] if option.get("type") != "null"]
        return ", or ".join(dict.fromkeys(kinds))
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "examples" in value:
        return f"text such as `{value['examples'][0]}`"
    kind = value.get("type")
    if kind == "object" and len(value.get("properties", {})) > 1:
        return f"mapping of {', '.join(f'`{key}`' for key in value['properties'])}"
    if kind == "object":
        inner = [f"`{{{key}: k}}` with k a {_kind(of)}" for key, of in value.get("properties", {}).items()]
        return ", ".join(inner) or "mapping"
    if kind == "array":
        return f"list of {_kind(value['items'])}"
    words = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "string": "text"}
    return words.get(str(kind), "anything") + _bounds(value)


def _bounds(value: dict[str, Any]) -> str:
    bounds = []
    for key, word in (
        ("minimum", "from"),
        ("exclusiveMinimum", "above"),
        ("maximum", "to"),
        ("exclusiveMaximum", "below"),
    ):
        if key in value:
            bounds.append(f"{word} {value[key]:,}")
    return f" {' '.join(bounds)}" if bounds else ""


def main() -> int:
    """Write the page; with --check, say whether it is up to date."""
    text = reference()
    if sys.argv[1:] == ["--check"]:
        fresh = TARGET.exists() and TARGET.read_text(encoding="utf-8") == text
        print(f"{TARGET} is {'up to date' if fresh else 'stale: run python -m orchestrator.cli.reference'}")
        return 0 if fresh else 1
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text, encoding="utf-8")
    print(f"wrote {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
