"""The text of the job file that a configuration came to."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import yaml

from jobs.convert.convert import NAMES, Conversion

_ORDER = (
    "name",
    "model",
    "data",
    "trainer",
    "dpo",
    "kto",
    "reward",
    "method",
    "training",
    "memory",
    "resources",
    "report_to",
)
_FIRST = ("path", "kind")  # of a section
_WIDTH = 96


def text_of(made: Conversion, source: str) -> str:
    """YAML, with what is not honoured in comments above."""
    lines = [*_comment(f"From {source} ({NAMES[made.tool]}), by `tuneyard convert`.")]
    if made.missing:
        lines += _comment("Not a job yet:")
        for fault in made.missing:
            lines += _comment(f"- {fault}")
    if listed := made.of("listed"):
        lines += _comment(f"Not honoured ({len(listed)}):")
        for entry in listed:
            lines += _comment(f"- {entry.key}: {entry.given}  ({entry.reason})")
    if made.defaults:
        lines += _comment(f"Defaults of {NAMES[made.tool]} that are written out:")
        for said in made.defaults:
            lines += _comment(f"- {said}")
    job = {name: made.job[name] for name in _ORDER if name in made.job}
    job |= {name: value for name, value in made.job.items() if name not in job}
    return (
        "\n".join(lines)
        + "\n"
        + yaml.dump(_plain(job), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)
    )


def _comment(text: str) -> Iterator[str]:
    """Comment lines; control characters of a source must not end one."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    hanging = "  " if text.startswith("- ") else ""
    for line in textwrap.wrap(clean, _WIDTH, subsequent_indent=hanging) or [""]:
        yield f"# {line}".rstrip()


class _Dumper(yaml.SafeDumper):
    """Floats as people write them."""


def _float(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    text = repr(value)
    if "e" in text and "." not in text:  # 2e-05 is text to YAML 1.1
        text = text.replace("e", ".0e", 1)
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


_Dumper.add_representer(float, _float)


def _plain(value: Any) -> Any:
    """Without shared lists, for which YAML would write anchors."""
    if isinstance(value, dict):
        first = [key for key in _FIRST if key in value]
        return {key: _plain(value[key]) for key in dict.fromkeys([*first, *value])}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
